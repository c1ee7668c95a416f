"""Is the system healthy? Checks that need no clean version of any mixture."""

import math
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from sottovoce.metrics.intrusive import si_sdr
from sottovoce.models.blocks import Past
from sottovoce.models.joint import JointSystem
from sottovoce.objectives.spectral import reconstruction

_QUANTISATION_DB = 3.0


@dataclass(frozen=True)
class Health:
    """What the checks measure; every value is computed without latent noise.

    Attributes:
        prior_ratio: Error of D_A(E_S(noise)) over error of D_A(E_S(speech)); far above 1 if the decoders know speech.
        ceiling_si_sdr_db: SI-SDR of clean speech through the speech autoencoder: no decoder does better.
        noise_attenuation_db: Level that noise-only clips lose; near 0 means that noise passes through.
        speech_loss_db: Level that clean speech loses; far above 0 means that speech is eaten.
        cycle_error_ratio: Cycle error with the enhanced amplitude quantised over the error without; far above 1 means
            that the mixture hides in its fine print.
        latent_dead_share: Share of latent dimensions with hardly any variance.
        latent_deviation: Mean deviation of the latent dimensions.
    """

    prior_ratio: float
    ceiling_si_sdr_db: float
    noise_attenuation_db: float
    speech_loss_db: float
    cycle_error_ratio: float
    latent_dead_share: float
    latent_deviation: float

    def values(self) -> dict[str, float]:
        """The checks by name."""
        return asdict(self)


def _si_sdr_db(estimates: Tensor, references: Tensor) -> float:
    """Mean over the clips that have a ratio; 0 where none has, since all are silent."""
    pairs = zip(references.cpu().numpy(), estimates.cpu().numpy(), strict=True)
    ratios = [ratio for pair in pairs if not math.isnan(ratio := si_sdr(*pair))]
    return float(np.mean(ratios)) if ratios else 0.0


def _lost_db(before: Tensor, after: Tensor) -> float:
    return float(10 * torch.log10((before.square().sum() + 1e-12) / (after.square().sum() + 1e-12)))


@torch.no_grad()
def check(model: JointSystem, speech: Tensor, mixtures: Tensor, noise: Tensor) -> Health:
    """Run all checks.

    Args:
        model: The system, in evaluation mode.
        speech: Held-out clean speech `(B, T)`.
        mixtures: Held-out noisy recordings `(M, T)`.
        noise: Noise-only stretches `(K, T)`.

    Returns:
        The measures.
    """

    def scaled(waveform: Tensor) -> Tensor:
        spectra: Tensor = model.analyse(waveform)
        level: Tensor = model.level(spectra, Past())
        return spectra / level

    def autoencoder_error(spectra: Tensor) -> float:
        decoded = model.decode_speech(model.encode_speech(spectra)).amplitude
        return float(reconstruction(decoded, model.compressed(spectra)))

    translation = model.translate(mixture_spectra := scaled(mixtures))
    target = model.compressed(mixture_spectra)

    def cycle_error(spectrum: Tensor) -> float:
        latent = model.encode_speech(model.recompute(spectrum, mixtures.shape[-1]))
        return float(reconstruction(model.decode_mixture(latent, translation.noise_code), target))

    size = translation.spectrum.square().sum(dim=1, keepdim=True).sqrt() + 1e-8
    steps = torch.round(20 * torch.log10(size) / _QUANTISATION_DB)
    quantised = translation.spectrum / size * 10 ** (steps * _QUANTISATION_DB / 20)
    deviation = translation.latent.std(dim=(0, 2)).cpu().numpy()
    return Health(
        prior_ratio=autoencoder_error(scaled(noise)) / max(1e-12, autoencoder_error(scaled(speech))),
        ceiling_si_sdr_db=_si_sdr_db(model.reconstruct(speech), speech),
        noise_attenuation_db=_lost_db(noise, model.enhance(noise)),
        speech_loss_db=_lost_db(speech, model.enhance(speech)),
        cycle_error_ratio=cycle_error(quantised) / max(1e-12, cycle_error(translation.spectrum)),
        latent_dead_share=float(np.mean(deviation < 1e-2)),
        latent_deviation=float(deviation.mean()),
    )
