"""Ratio masks learned from pairs: IRM and cIRM on the backbone of the mixture autoencoder."""

import torch
from torch import Tensor, nn

from sottovoce.config import FrontendSettings
from sottovoce.models.autoencoder import Decoder
from sottovoce.models.blocks import Past
from sottovoce.models.frontend import RunningLevel, TorchSTFT
from sottovoce.objectives.joint import LossTerms, UnpairedTensors
from sspd2023.baselines.network import Baseline
from sspd2023.baselines.ratio_masks import complex_ratio_mask, compress, decompress, ideal_ratio_mask
from sspd2023.poster import BatchBlock, PhaseMaps, decoder, encoder
from sspd2023.settings import MaskingSettings, PosterSettings


class Masking(Baseline):
    """E_M, G and a decoder of the size of D_A that gives a mask, trained with pairs of the very mixtures.

    Args:
        frontend: Windows, hop, compression.
        poster: The joint system's networks, of which E_M, G and the shape of D_A are taken.
        settings: Which mask.

    Source:
        Wang, Narayanan and Wang (2014): IRM; Williamson, Wang and Wang (2016): cIRM.
    """

    def __init__(self, frontend: FrontendSettings, poster: PosterSettings, settings: MaskingSettings) -> None:
        super().__init__()
        self.complex = settings.target == "cirm"
        self.stft = TorchSTFT((frontend.window, *poster.shorter_windows), frontend.hop, frontend.synthesis_window)
        self.bins = frontend.bins
        self.level = RunningLevel(frontend)
        self.maps = PhaseMaps(frontend.compression, poster.phase_features)
        inputs = self.maps.per_bin * sum(self.stft.reference.bins)
        self.encoder = encoder(inputs, poster.mixture_encoder, frontend, poster)
        self.shared = BatchBlock(poster.latent, poster.latent)
        outputs = 2 * self.bins if self.complex else self.bins
        self.decoder = decoder(Decoder, poster.latent, outputs, poster.speech_decoder)

    def trained_parts(self) -> list[nn.Module]:
        """All of it."""
        return [self]

    def terms(self, batch: UnpairedTensors, generator: torch.Generator) -> LossTerms:
        """Mean squared error of the mask, for a complex one compressed."""
        spectra, mixture = self._scaled(batch.simulated_mixtures)
        speech = _as_complex(self.stft.analyse(batch.simulated_targets)[:, :, : self.bins])
        if self.complex:
            wanted = _as_parts(compress(complex_ratio_mask(mixture, speech)))
        else:
            wanted = ideal_ratio_mask(speech, mixture - speech)
        return {"mask": (self._mask(spectra) - wanted).square().mean()}

    @torch.no_grad()
    def enhance(self, waveform: Tensor) -> Tensor:
        """Apply the mask to the mixture; a ratio mask leaves the mixture's phase."""
        spectra, mixture = self._scaled(waveform)
        mask = self._mask(spectra)
        masked = (decompress(_as_complex(mask)) if self.complex else mask) * mixture
        return self.stft.synthesise(_as_parts(masked), waveform.shape[-1])

    def _scaled(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """Spectra in their own running level for the network, and complex ones of the longest window as they are."""
        spectra = self.stft.analyse(waveform)
        return spectra / self.level(spectra, Past()), _as_complex(spectra[:, :, : self.bins])

    def _mask(self, spectra: Tensor) -> Tensor:
        """Mask, compressed if it is complex: `(B, F, N)` in 0..1, or `(B, 2, F, N)`."""
        past = Past()
        _, latent = self.encoder(self.maps(spectra, past), past)
        rows: Tensor = self.decoder(self.shared(latent, past), past)
        if self.complex:
            return torch.stack(rows.chunk(2, dim=1), dim=1)
        return torch.sigmoid(rows)


def _as_complex(parts: Tensor) -> Tensor:
    """Real and imaginary parts `(B, 2, F, N)` as complex numbers `(B, F, N)`."""
    return torch.complex(parts[:, 0], parts[:, 1])


def _as_parts(spectrum: Tensor) -> Tensor:
    return torch.stack([spectrum.real, spectrum.imag], dim=1)
