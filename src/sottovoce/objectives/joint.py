"""The two objectives: named terms of a batch, which the weights of the settings add up."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sottovoce.config import FrontendSettings, JointWeights, SpeechWeights
from sottovoce.models.blocks import Past
from sottovoce.models.frontend import TorchSTFT, phasor
from sottovoce.models.joint import JointSystem, Translation
from sottovoce.objectives.latent import latent_distance, prior
from sottovoce.objectives.perceptual import PerceptualDisturbance
from sottovoce.objectives.phase import consistency, phase_error
from sottovoce.objectives.spectral import (
    complex_reconstruction,
    multi_resolution,
    reconstruction,
    signal_to_error,
    silence,
)

LossTerms = dict[str, Tensor]


class UnpairedTensors(NamedTuple):
    """Clips of one step; no part of it knows the clean version of a mixture.

    Attributes:
        speech: Clean speech of anyone, `(B, T)`.
        mixtures: Noisy recordings, `(M, T)`.
        noise: Noise-only stretches of noisy recordings, `(K, T)`; K may be 0.
        simulated_mixtures: Clean speech, in a simulated room, plus noise, `(P, T)`; P may be 0.
        simulated_targets: Its speech with early sound, `(P, T)`.
        simulated_reverberant: Its speech in the room, without noise, `(P, T)`.
        simulated_rooms: What of the room its target keeps, `(P, 2)`; see `engine.metadata.ROOMS`.
    """

    speech: Tensor
    mixtures: Tensor
    noise: Tensor
    simulated_mixtures: Tensor
    simulated_targets: Tensor
    simulated_reverberant: Tensor
    simulated_rooms: Tensor


def total(terms: LossTerms, weights: Mapping[str, float]) -> Tensor:
    """Sum of weight x term, over the terms that have a weight.

    Args:
        terms: Named scalars.
        weights: A weight for each name.

    Returns:
        Scalar.
    """
    return torch.stack([weights[name] * term for name, term in terms.items() if weights[name]]).sum()


class Objective:
    """Computes the terms of both stages; costly terms without weight are not computed.

    Args:
        frontend: Settings of the spectra.
    """

    def __init__(self, frontend: FrontendSettings) -> None:
        # A quarter of the window, or the poster's hop where that is shorter.
        self.resolutions = [TorchSTFT((window,), min(frontend.hop, window // 4)) for window in frontend.loss_windows]
        self.compression = frontend.compression
        self.disturbance = PerceptualDisturbance(frontend.sample_rate)

    def speech(
        self, model: JointSystem, speech: Tensor, weights: SpeechWeights, generator: torch.Generator
    ) -> LossTerms:
        """L_SAE = rec(Â_s, A_s) + phase + prior + multi-resolution + consistency, on clean speech alone.

        Two repairs of the known traps: speech is given at the levels that it has inside mixtures (their scale is at or
        above its own), and the phase at the input is disturbed, since a correction of a clean phase would learn 0.

        Args:
            model: The system.
            speech: Clean speech `(B, T)`.
            weights: Which terms are wanted.
            generator: Source of latent noise, levels and disturbed phases.

        Returns:
            Named terms.
        """
        samples = speech.shape[-1]
        spectra = model.analyse(speech)
        below_db = 12 * torch.rand(speech.shape[0], 1, 1, 1, generator=generator)
        level = model.level(spectra, Past()) * (10 ** (below_db / 20)).to(speech.device)
        spectra = spectra / level
        noise = torch.randn(spectra.shape, generator=generator).to(speech.device)
        spread = torch.rand(speech.shape[0], 1, 1, 1, generator=generator).to(speech.device)
        disturbed = (spectra.square().sum(dim=1, keepdim=True)).sqrt() * phasor(spectra + 0.5 * spread * noise)

        latent = model.encode_speech(disturbed)
        decoded = model.decode_speech(latent, generator)
        clean = spectra[:, :, : model.bins]
        target = model.compressed(spectra)
        terms: LossTerms = {"amplitude": reconstruction(decoded.amplitude, target), "prior": prior(latent)}
        spectrum = model.spectrum_of(decoded, disturbed[:, :, : model.bins])
        if weights.phase:
            terms["phase"] = phase_error(phasor(spectrum), phasor(clean), target)
        if weights.multi_resolution:
            terms["multi_resolution"] = multi_resolution(
                model.stft.synthesise(spectrum, samples),
                model.stft.synthesise(clean, samples),
                self.resolutions,
                self.compression,
            )
        if weights.consistency:
            recomputed = model.recompute(spectrum, samples)[:, :, : model.bins]
            terms["consistency"] = consistency(spectrum, recomputed)
        return terms

    def joint(
        self,
        model: JointSystem,
        batch: UnpairedTensors,
        weights: JointWeights,
        generator: torch.Generator,
    ) -> LossTerms:
        """L_MAE: mixture reconstruction, cycle, latent consistency, silence, prior; and what came after the poster.

        Args:
            model: The system; E_S, D_A, D_P and G are frozen, gradients pass through them.
            batch: Clips.
            weights: Which terms are wanted.
            generator: Source of the latent noise.

        Returns:
            Named terms.
        """
        counts = [len(batch.mixtures), len(batch.noise), len(batch.simulated_mixtures)]
        clips = torch.cat([batch.mixtures, batch.noise, batch.simulated_mixtures])
        samples = clips.shape[-1]
        spectra = model.analyse(clips)
        level = model.level(spectra, Past())
        scaled = spectra / level
        natural = clips.new_zeros(counts[0] + counts[1], 2)
        translation = model.translate(scaled, generator, torch.cat([natural, batch.simulated_rooms]))
        mixture_scaled, _, simulated_scaled = torch.split(scaled, counts)
        parts = zip(*(torch.split(part, counts) for part in translation), strict=True)
        mixture, noise, simulated = (Translation(*part) for part in parts)

        target = model.compressed(mixture_scaled)
        rebuilt = model.decode_mixture(mixture.latent, mixture.noise_code, generator)
        terms: LossTerms = {"mixture_amplitude": reconstruction(rebuilt, target), "prior": prior(mixture.latent)}
        if weights.cycle or weights.latent_consistency or weights.consistency:
            recomputed = model.recompute(mixture.spectrum, samples)
            cycle_latent = model.encode_speech(recomputed)
            cycled = model.decode_mixture(cycle_latent, mixture.noise_code, generator)
            terms["cycle"] = reconstruction(cycled, target)
            terms["latent_consistency"] = latent_distance(cycle_latent, mixture.latent)
            terms["prior"] = terms["prior"] + prior(cycle_latent)
            terms["consistency"] = consistency(mixture.spectrum, recomputed[:, :, : model.bins])
        if weights.silence and counts[1]:
            terms["silence"] = silence(noise.spectrum)
        if weights.multi_resolution:
            spectrum = (rebuilt ** (1 / self.compression)).unsqueeze(1) * phasor(mixture_scaled[:, :, : model.bins])
            terms["multi_resolution"] = multi_resolution(
                model.stft.synthesise(spectrum, samples),
                model.stft.synthesise(mixture_scaled[:, :, : model.bins], samples),
                self.resolutions,
                self.compression,
            )
        if counts[2] and any(value for name, value in weights if name.startswith("simulated_")):
            clean = model.analyse(batch.simulated_targets) / level[-counts[2] :]
            terms |= self._simulated(model, simulated_scaled, simulated, clean, samples=samples, weights=weights)
            if model.pretask is not None:
                reverberant = model.analyse(batch.simulated_reverberant) / level[-counts[2] :]
                of_simulated = (part[:, :, : model.bins] for part in (simulated_scaled, reverberant, clean))
                terms |= _mask_pretask(model, simulated.latent, *of_simulated)
        return terms

    def _simulated(
        self,
        model: JointSystem,
        mixture: Tensor,
        estimate: Translation,
        clean: Tensor,
        *,
        samples: int,
        weights: JointWeights,
    ) -> LossTerms:
        """Terms of simulated mixtures, whose clean speech is known because it was put there."""
        size = clean.square().sum(dim=1, keepdim=True).sqrt()
        with torch.no_grad():
            # E_S is given the speech with the mixture's phase: it was trained on disturbed phases.
            wanted = model.encode_speech(size * phasor(mixture))
        target = clean[:, :, : model.bins]
        speech = model.stft.synthesise(target, samples)
        enhanced = model.stft.synthesise(estimate.spectrum, samples)
        terms: LossTerms = {
            "simulated_latent": latent_distance(estimate.latent, wanted),
            "simulated_amplitude": reconstruction(estimate.amplitude, model.compressed(clean)),
            "simulated_magnitude": reconstruction(model.compressed(estimate.spectrum), model.compressed(clean)),
            "simulated_complex": complex_reconstruction(estimate.spectrum, target, self.compression),
            "simulated_multi_resolution": multi_resolution(enhanced, speech, self.resolutions, self.compression),
            "simulated_snr": signal_to_error(enhanced, speech),
        }
        if weights.simulated_disturbance:
            terms["simulated_disturbance"] = self.disturbance(enhanced, speech)
        return terms


def _mask_pretask(model: JointSystem, latent: Tensor, mixture: Tensor, reverberant: Tensor, clean: Tensor) -> LossTerms:
    """Mean square errors of the masks that take away the noise, and then the room."""
    ratio, dereverberation = model.decode_masks(latent)
    noise, in_room, dry = (part.square().sum(dim=1).sqrt() for part in (mixture - reverberant, reverberant, clean))
    wanted = in_room / (in_room + noise + 1e-6)
    return {
        "simulated_ratio_mask": nn.functional.mse_loss(ratio, wanted),
        "simulated_dereverberation_mask": nn.functional.mse_loss(
            dereverberation, (dry / (in_room + 1e-6)).clamp_max(1.0)
        ),
    }
