"""Masks made with the answer at hand: what a network that estimates such a mask could give at best."""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sottovoce.errors import AudioError
from sottovoce.signal.stft import MultiResolutionSTFT
from sspd2023.baselines.ratio_masks import complex_ratio_mask, compress, decompress, ideal_ratio_mask
from sspd2023.baselines.system import require_sample_rate


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
                "two aligned signals (samples,) of equal length: give each mixture its own clean speech"
            )
        mixture, speech = self._spectrum(waveform), self._spectrum(self.reference)
        if self.kind == "irm":
            masked = ideal_ratio_mask(speech, mixture - speech) * mixture
        else:
            masked = decompress(compress(complex_ratio_mask(mixture, speech))) * mixture
        parts = torch.stack([masked.real, masked.imag]).numpy()
        return self._stft.synthesise(parts, len(waveform)).astype(np.float32)

    def _spectrum(self, waveform: NDArray[np.float32]) -> Tensor:
        return torch.complex(*torch.from_numpy(self._stft.analyse(waveform.astype(np.float64))))
