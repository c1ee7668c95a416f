"""A loss in units of loudness: what a listener notices of the difference between two signals."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# The figures of P.862, in its order.
_WINDOW_SECONDS = 0.032
_BANDS = 49
_SPEECH_HZ = (350.0, 3250.0)
# Level of a conversation, in that range, and the threshold of hearing over frequency, in dB of one scale.
_LISTENING_DB = 83.0
_THRESHOLD_HZ = (0, 31, 64, 96, 129, 196, 265, 336, 446, 619, 1000, 2500, 4200, 6200, 8000)
_THRESHOLD_DB = (77, 64, 48.5, 37, 31, 20, 12.5, 7, 1, -3.4, -6, -3, -3, -4.4, -2.7)
_MIN_GAIN, _MAX_GAIN, _GAIN_POWER = 3e-4, 5.0, 5e3
# Zwicker's law: the exponent of loudness is larger in the lowest bands.
_ZWICKER, _SONE = 0.23, 0.187
_MASKED_SHARE = 0.25
_ADDED_POWER, _ADDED_EXPONENT, _MIN_ADDED, _MAX_ADDED = 50.0, 1.2, 3.0, 12.0
_SOFT_POWER, _LOUD_POWER, _SOFT_EXPONENT = 1e5, 1e7, 0.04
_MAX_DISTURBANCE = 45.0
_SYMMETRIC, _ASYMMETRIC = 0.1, 0.0309
# Clips whose speech is softer than this, in the mixture's scale, have no level that could be set.
_MIN_SPEECH_POWER = 1e-4


class PerceptualDisturbance:
    """How far speech is from perfect to a listener, in the units of PESQ's raw score: 0 to about 4.

    The perceptual model of P.862 with what a gradient needs: signals are aligned, the root mean square over frames
    stands for its higher powers, and a frame's gain does not depend on the frame before. Loudness is compared in bands
    of equal width in Bark, above the threshold of hearing. Differences below a quarter of the loudness are masked, and
    added sound disturbs more than missing sound. The level of each signal is set to that of a conversation, and that of
    each frame to the target's, so gains are no errors.

    Args:
        sample_rate: In Hz.

    Source:
        ITU-T P.862 (2001), section 10.2, and Martin-Doñas et al., "A deep learning loss function based on the
        perceptual evaluation of the speech quality" (2018).
    """

    def __init__(self, sample_rate: int) -> None:
        half = round(_WINDOW_SECONDS * sample_rate / 2)
        self._window = torch.hann_window(2 * half)
        hz = np.arange(half + 1) * sample_rate / (2 * half)
        bark = _bark(hz)
        width = bark[-1] / _BANDS
        band = np.minimum(bark / width, _BANDS - 1).astype(int)
        centre = (np.arange(_BANDS) + 0.5) * width
        centre_hz = np.interp(centre, bark, hz)
        self._width = float(width)
        self._sums = torch.from_numpy(np.eye(_BANDS)[band]).float()
        self._threshold = torch.from_numpy(10 ** (np.interp(centre_hz, _THRESHOLD_HZ, _THRESHOLD_DB) / 10)).float()
        self._exponent = torch.from_numpy(_ZWICKER * np.minimum(6 / (centre + 2), 2.0).clip(1.0) ** 0.15).float()
        self._speech = (centre_hz >= _SPEECH_HZ[0]) & (centre_hz <= _SPEECH_HZ[1])

    def __call__(self, estimate: Tensor, target: Tensor) -> Tensor:
        """Mean disturbance of estimates.

        Args:
            estimate: Samples `(B, T)`.
            target: Samples `(B, T)`, taken as constants.

        Returns:
            Scalar, at least 0; clips whose target is silent count 0.
        """
        wanted, spoken = self._powers(target.detach())
        got, _ = self._powers(estimate)
        threshold = self._threshold.to(got)
        audible = (wanted * (wanted > threshold)).sum(dim=-1)
        gain = (audible + _GAIN_POWER) / ((got * (got > threshold)).sum(dim=-1) + _GAIN_POWER)
        got = got * gain.clamp(_MIN_GAIN, _MAX_GAIN).unsqueeze(-1)

        loudness = self._loudness(wanted)
        difference = self._loudness(got) - loudness
        masked = _MASKED_SHARE * torch.minimum(loudness, loudness + difference.detach())
        noticed = self._width * torch.relu(difference.abs() - masked)
        # The Euclidean norm over bands, in the scale of their sum.
        symmetric = (_BANDS * noticed.square().sum(dim=-1) + 1e-6).sqrt()
        added = ((got.detach() + _ADDED_POWER) / (wanted + _ADDED_POWER)) ** _ADDED_EXPONENT
        added = torch.where(added < _MIN_ADDED, 0.0, added.clamp_max(_MAX_ADDED))
        asymmetric = (added * noticed).sum(dim=-1)
        softness = ((audible + _SOFT_POWER) / _LOUD_POWER) ** _SOFT_EXPONENT
        symmetric, asymmetric = (
            ((part / softness).clamp_max(_MAX_DISTURBANCE).square().mean(dim=-1) + 1e-6).sqrt()
            for part in (symmetric, asymmetric)
        )
        return ((_SYMMETRIC * symmetric + _ASYMMETRIC * asymmetric) * spoken).mean()

    def _powers(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """Powers of the bands `(B, N, 49)` at the listening level, and which clips have speech, as 0 or 1."""
        window = self._window.to(waveform)
        frames = waveform.unfold(-1, len(window), len(window) // 2)
        power = torch.fft.rfft(window * frames).abs().square() @ self._sums.to(waveform)
        speech = power[..., self._speech].sum(dim=-1).mean(dim=-1)
        spoken = (speech > _MIN_SPEECH_POWER * len(window)).to(power)
        return power * (10 ** (_LISTENING_DB / 10) / (speech + 1e-9)).view(-1, 1, 1), spoken

    def _loudness(self, power: Tensor) -> Tensor:
        """Loudness of the bands in sone per Bark; 0 below the threshold of hearing."""
        threshold, exponent = self._threshold.to(power), self._exponent.to(power)
        above = (1 + 0.5 * torch.relu(power / threshold - 1)) ** exponent - 1
        return _SONE * (2 * threshold) ** exponent * above


def _bark(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Critical-band rate. Source: Zwicker and Terhardt (1980)."""
    return 13 * np.arctan(7.6e-4 * hz) + 3.5 * np.arctan((hz / 7500) ** 2)
