"""Masks made with the answer at hand: what a network that estimates such a mask could give at best."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sottovoce.errors import AudioError
from sottovoce.signal.stft import MultiResolutionSTFT
from sspd2023.baselines.system import require_sample_rate

FloatArray = NDArray[np.floating[Any]]
ComplexArray = NDArray[np.complexfloating[Any, Any]]

COMPRESSED_LIMIT = 10.0
"""K of the compression of complex masks."""

COMPRESSED_SLOPE = 0.1
"""C of the compression of complex masks."""

# The inverse of the compression is infinite at its limit.
_LARGEST_SHARE = 0.999
_TINY = np.finfo(np.float64).tiny


class OracleMask:
    """The ideal mask of one mixture, whose clean speech is known.

    Args:
        reference: Dry clean speech in the mixture `(samples,)`; all else in the mixture is noise, reverberation
            included.
        kind: "irm" for the ratio mask, which leaves the mixture's phase; "cirm" for the complex one, compressed and
            decompressed as on its way through a network.
        window: Length of the window in samples.
        hop: Hop in samples, at most half the window.

    Source:
        Wang, Narayanan and Wang, IEEE TASLP 22(12), 2014; Williamson, Wang and Wang, IEEE TASLP 24(3), 2016.
    """

    def __init__(
        self, reference: NDArray[np.float32], kind: Literal["irm", "cirm"], *, window: int = 1024, hop: int = 256
    ) -> None:
        self.reference = reference
        self.kind = kind
        self._stft = MultiResolutionSTFT((window,), hop)

    def enhance(self, waveform: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
        """Apply the mask to the mixture that it belongs to.

        Args:
            waveform: Mixture `(samples,)`, as long as the reference and aligned with it.
            sample_rate: 16000 Hz.

        Returns:
            Samples `(samples,)`, aligned.

        Raises:
            AudioError: The mixture is not of the reference's length.
            ConfigError: Another rate.
        """
        require_sample_rate(sample_rate)
        if waveform.shape != self.reference.shape:
            raise AudioError(
                f"found a mixture of shape {waveform.shape} for a reference of shape {self.reference.shape}, expected "
                "two aligned signals (samples,) of equal length: give each mixture its own clean speech."
            )
        mixture, speech = self._spectrum(waveform), self._spectrum(self.reference)
        if self.kind == "irm":
            masked = ideal_ratio_mask(speech, mixture - speech) * mixture
        else:
            masked = decompress(compress(complex_ratio_mask(mixture, speech))) * mixture
        return self._stft.synthesise(np.stack([masked.real, masked.imag]), len(waveform)).astype(np.float32)

    def _spectrum(self, waveform: NDArray[np.float32]) -> NDArray[np.complex128]:
        real, imaginary = self._stft.analyse(waveform.astype(np.float64))
        return np.asarray(real + 1j * imaginary)


def ideal_ratio_mask(speech: ComplexArray, noise: ComplexArray) -> FloatArray:
    """M = sqrt(|S|² / (|S|² + |N|²)).

    Args:
        speech: Spectrum S of any shape.
        noise: Spectrum N of the same shape.

    Returns:
        Mask of the same shape in 0..1; 0 where both are silent.

    Source:
        Wang, Narayanan and Wang, "On training targets for supervised speech separation", IEEE TASLP 22(12), 2014,
        with exponent 1/2.
    """
    wanted = np.abs(speech)
    total = np.hypot(wanted, np.abs(noise))
    return np.asarray(wanted / np.where(total > 0, total, 1))


def complex_ratio_mask(mixture: ComplexArray, speech: ComplexArray) -> ComplexArray:
    """M = S / Y: M_r = (Y_r S_r + Y_i S_i) / |Y|², M_i = (Y_r S_i - Y_i S_r) / |Y|².

    Args:
        mixture: Spectrum Y of any shape.
        speech: Spectrum S of the same shape.

    Returns:
        Mask of the same shape, unbounded; 0 where the mixture is silent.

    Source:
        Williamson, Wang and Wang, "Complex ratio masking for monaural speech separation", IEEE TASLP 24(3), 2016.
    """
    nonzero = np.abs(mixture) > _TINY
    return np.divide(speech, mixture, out=np.zeros(mixture.shape, np.complex128), where=nonzero)


def compress(mask: ComplexArray) -> ComplexArray:
    """K (1 - e^(-C M)) / (1 + e^(-C M)) of the real and of the imaginary part.

    Args:
        mask: Of any shape, unbounded.

    Returns:
        Of the same shape, both parts in -K..K.

    Source:
        Williamson, Wang and Wang (2016), K = 10 and C = 0.1.
    """
    slope = 0.5 * COMPRESSED_SLOPE  # (1 - e^-x) / (1 + e^-x) = tanh(x / 2), which does not overflow
    return np.asarray(COMPRESSED_LIMIT * (np.tanh(slope * mask.real) + 1j * np.tanh(slope * mask.imag)))


def decompress(compressed: ComplexArray) -> ComplexArray:
    """Undo `compress`; parts at its limit or beyond are brought just below it.

    Args:
        compressed: Of any shape.

    Returns:
        Of the same shape, both parts in -76..76.

    Source:
        Williamson, Wang and Wang (2016).
    """

    def inverse(part: FloatArray) -> FloatArray:
        share = np.clip(part / COMPRESSED_LIMIT, -_LARGEST_SHARE, _LARGEST_SHARE)
        return np.asarray(np.arctanh(share) / (0.5 * COMPRESSED_SLOPE))

    return np.asarray(inverse(compressed.real) + 1j * inverse(compressed.imag))
