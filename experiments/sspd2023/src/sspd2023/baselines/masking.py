"""Ratio masks learned from pairs: IRM and cIRM on the backbone of the mixture autoencoder."""

import torch
from torch import Tensor, nn

from sottovoce.config import FrontendSettings
from sottovoce.models.autoencoder import Decoder
from sottovoce.models.blocks import Past
from sottovoce.models.frontend import RunningLevel, TorchSTFT, rotate
from sottovoce.objectives.joint import LossTerms, UnpairedTensors
from sspd2023.baselines.network import Baseline
from sspd2023.baselines.oracle import COMPRESSED_LIMIT, COMPRESSED_SLOPE
from sspd2023.poster import BatchBlock, PhaseMaps, decoder, encoder
from sspd2023.settings import MaskingSettings, PosterSettings

_TINY = 1e-8
# A network may reach the limit of the compression, where its inverse is infinite.
_LARGEST_SHARE = 0.999


def ideal_ratio_mask(mixture: Tensor, speech: Tensor) -> Tensor:
    """M = sqrt(S² / (S² + N²)) with N = Y - S: what is not the wanted speech is noise, reverberation included.

    Args:
        mixture: Y `(B, 2, F, N)`, real and imaginary parts.
        speech: S `(B, 2, F, N)`.

    Returns:
        Mask `(B, F, N)` in 0..1.

    Source:
        Wang, Narayanan and Wang, "On training targets for supervised speech separation" (2014).
    """
    wanted, rest = speech.square().sum(dim=1), (mixture - speech).square().sum(dim=1)
    return torch.sqrt(wanted / (wanted + rest + _TINY))


def complex_ratio_mask(mixture: Tensor, speech: Tensor) -> Tensor:
    """M = S / Y in the complex plane.

    Args:
        mixture: Y `(B, 2, F, N)`, real and imaginary parts.
        speech: S `(B, 2, F, N)`.

    Returns:
        Mask `(B, 2, F, N)`, real and imaginary parts, unbounded.

    Source:
        Williamson, Wang and Wang, "Complex ratio masking for monaural speech separation" (2016).
    """
    conjugate = torch.stack([mixture[:, 0], -mixture[:, 1]], dim=1)
    return rotate(conjugate, speech) / (mixture.square().sum(dim=1, keepdim=True) + _TINY)


def compress(mask: Tensor) -> Tensor:
    """K (1 - e^(-C M)) / (1 + e^(-C M)): an unbounded mask in -K..K.

    Args:
        mask: Of any shape.

    Returns:
        Of the same shape.

    Source:
        Williamson, Wang and Wang (2016), K = 10 and C = 0.1.
    """
    return COMPRESSED_LIMIT * torch.tanh(0.5 * COMPRESSED_SLOPE * mask)


def decompress(compressed: Tensor) -> Tensor:
    """Undo `compress`; values at its limit or beyond are brought just below it.

    Args:
        compressed: Of any shape.

    Returns:
        Of the same shape.
    """
    share = (compressed / COMPRESSED_LIMIT).clamp(-_LARGEST_SHARE, _LARGEST_SHARE)
    return torch.atanh(share) / (0.5 * COMPRESSED_SLOPE)


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
        speech = self.stft.analyse(batch.simulated_targets)[:, :, : self.bins]
        found = self._mask(spectra)
        wanted = compress(complex_ratio_mask(mixture, speech)) if self.complex else ideal_ratio_mask(mixture, speech)
        return {"mask": (found - wanted).square().mean()}

    @torch.no_grad()
    def enhance(self, waveform: Tensor) -> Tensor:
        """Apply the mask to the mixture; a ratio mask leaves the mixture's phase."""
        spectra, mixture = self._scaled(waveform)
        mask = self._mask(spectra)
        masked = rotate(decompress(mask), mixture) if self.complex else mask.unsqueeze(1) * mixture
        return self.stft.synthesise(masked, waveform.shape[-1])

    def _scaled(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """Spectra in their own running level for the network, and those of the longest window as they are."""
        spectra = self.stft.analyse(waveform)
        return spectra / self.level(spectra, Past()), spectra[:, :, : self.bins]

    def _mask(self, spectra: Tensor) -> Tensor:
        """Mask, compressed if it is complex: `(B, F, N)` in 0..1, or `(B, 2, F, N)`."""
        past = Past()
        _, latent = self.encoder(self.maps(spectra, past), past)
        rows: Tensor = self.decoder(self.shared(latent, past), past)
        if self.complex:
            return torch.stack(rows.chunk(2, dim=1), dim=1)
        return torch.sigmoid(rows)
