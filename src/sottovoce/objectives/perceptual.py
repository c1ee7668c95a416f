"""A loss that hears: how much louder or softer than wanted each critical band sounds."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sottovoce.models.frontend import TorchSTFT

_WINDOW_SECONDS = 0.032
_BAND_BARK = 0.4
_LISTENING_DB = 79.0  # Sound pressure level at which speech is heard.
_REFERENCE_POWER = 1e7
# Constants of ITU-T P.862: loudness scale, Zwicker's exponent, and the two disturbances.
_LOUDNESS_SCALE, _ZWICKER = 0.1866, 0.23
_UNHEARD_SHARE = 0.25
_ASYMMETRY_OFFSET, _ASYMMETRY_POWER, _ASYMMETRY_LEAST, _ASYMMETRY_MOST = 50.0, 1.2, 3.0, 12.0
_QUIET_POWER, _LOUD_FRAMES_POWER = 1e5, 0.04
_MOST_DISTURBING = 45.0
_SYMMETRIC_SHARE, _ASYMMETRIC_SHARE = 0.1, 0.0309


class Disturbances(NamedTuple):
    """Disturbances of every frame, each `(B, N)`, 0 for none to 45.

    Attributes:
        symmetric: Differences of loudness, either way.
        asymmetric: What is there and should not be, as it annoys more than what is missing.
    """

    symmetric: Tensor
    asymmetric: Tensor


class LoudnessDisturbance:
    """Differences of loudness as ITU-T P.862 weighs them, in a form that has gradients.

    It follows the standard from spectra to the disturbances of frames, and leaves out what corrects for lines and
    delays: alignment in time, equalisation of the line, gains that follow the level. It is not PESQ.

    Args:
        sample_rate: Rate in Hz.

    Source:
        ITU-T P.862 (2001), sections 10.2.3 to 10.2.9; Martin-Doñas et al., "A deep learning loss function based on the
        perceptual evaluation of the speech quality" (2018). Closed forms of the Bark scale: Hermansky (1990); of the
        threshold in quiet: Terhardt (1979).
    """

    def __init__(self, sample_rate: int) -> None:
        window = 2 * round(_WINDOW_SECONDS * sample_rate / 2)
        self._stft = TorchSTFT((window,), window // 2)
        frequency_hz = np.arange(window // 2 + 1) * sample_rate / window
        bark = 6.0 * np.arcsinh(frequency_hz / 600.0)
        # The lowest band counts for nothing, as in the standard; bands narrower than the distance of bins are empty.
        number = (bark / _BAND_BARK).astype(int)
        present = np.unique(number[number > 0])
        bands = (number == present[:, np.newaxis]).astype(np.float32)
        centre_bark = (present + 0.5) * _BAND_BARK
        centre_khz = 0.6 * np.sinh(centre_bark / 6.0)
        quiet_db = (
            3.64 * centre_khz**-0.8 - 6.5 * np.exp(-0.6 * (centre_khz - 3.3) ** 2) + 1e-3 * centre_khz**4
        )  # Terhardt
        low = np.where(centre_bark < 4.0, np.minimum(6.0 / (centre_bark + 2.0), 2.0) ** 0.15, 1.0)
        self._bands = torch.from_numpy(bands)
        self._threshold = torch.from_numpy(10.0 ** (quiet_db / 10.0)).float().unsqueeze(-1)
        self._exponent = torch.from_numpy(_ZWICKER * low).float().unsqueeze(-1)

    def __call__(self, estimate: Tensor, target: Tensor) -> Tensor:
        """Mean over frames of 0.1 x the symmetric and 0.0309 x the asymmetric disturbance, as PESQ adds them up.

        Args:
            estimate: Samples `(B, T)`.
            target: Samples `(B, T)`; its level is what is listened at.

        Returns:
            Scalar, at least 0.
        """
        found = self.disturbances(estimate, target)
        return (_SYMMETRIC_SHARE * found.symmetric + _ASYMMETRIC_SHARE * found.asymmetric).mean()

    def disturbances(self, estimate: Tensor, target: Tensor) -> Disturbances:
        """Disturbances of every frame.

        Args:
            estimate: Samples `(B, T)`.
            target: Samples `(B, T)`.

        Returns:
            One value of each kind per clip and frame.
        """
        with torch.no_grad():
            wanted = self._power(target)
            gain = 10 ** (_LISTENING_DB / 10) / (wanted.sum(dim=1).mean(dim=-1) + 1e-6)
            gain = gain.unsqueeze(-1).unsqueeze(-1)
            wanted = self._bands.to(wanted) @ wanted * gain
            wanted_loudness = self._loudness(wanted)
        heard = self._bands.to(wanted) @ self._power(estimate) * gain
        loudness = self._loudness(heard)
        unheard = _UNHEARD_SHARE * torch.minimum(loudness, wanted_loudness)
        difference = torch.relu((loudness - wanted_loudness).abs() - unheard)
        with torch.no_grad():
            excess = ((heard + _ASYMMETRY_OFFSET) / (wanted + _ASYMMETRY_OFFSET)) ** _ASYMMETRY_POWER
            excess = excess.clamp_max(_ASYMMETRY_MOST) * (excess >= _ASYMMETRY_LEAST)
            weight = ((wanted.sum(dim=1) + _QUIET_POWER) / _REFERENCE_POWER) ** -_LOUD_FRAMES_POWER
        breadth = _BAND_BARK * difference.shape[1]
        mean_square = (_BAND_BARK * difference).square().sum(dim=1) / breadth
        symmetric = breadth * torch.sqrt(mean_square + 1e-6)
        asymmetric = (_BAND_BARK * difference * excess).sum(dim=1)
        return Disturbances(_bounded(weight * symmetric), _bounded(weight * asymmetric))

    def _power(self, waveform: Tensor) -> Tensor:
        return self._stft.analyse(waveform).square().sum(dim=1)

    def _loudness(self, power: Tensor) -> Tensor:
        """Zwicker's law: loudness density in sone per Bark of the power in each band; 0 below what can be heard."""
        threshold, exponent = self._threshold.to(power), self._exponent.to(power)
        above = ((0.5 + 0.5 * power / threshold) ** exponent - 1.0).clamp_min(0.0)
        return _LOUDNESS_SCALE * (2.0 * threshold) ** exponent * above


def _bounded(disturbance: Tensor) -> Tensor:
    """The standard cuts off at 45; approached smoothly, so that the worst frames keep a gradient."""
    return _MOST_DISTURBING * (1.0 - torch.exp(-disturbance / _MOST_DISTURBING))
