"""Statistical gains on the short-time spectrum: what can be done without learning.

All three share one tracker of the noise, which needs no label of speech or pause, and one front end: a window of 32 ms
every 8 ms. They are causal but for the first guess of the noise, which is taken from the first second.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sottovoce.extras import require
from sottovoce.signal.levels import SILENCE_DB
from sottovoce.signal.stft import MultiResolutionSTFT
from sspd2023.baselines.system import SAMPLE_RATE, require_sample_rate

FloatArray = NDArray[np.floating[Any]]
Float64Array = NDArray[np.float64]
GainRule = Callable[[Float64Array, Float64Array], Float64Array]

_WINDOW = 512
_HOP = 128
_HOP_SECONDS = _HOP / SAMPLE_RATE
# Frames at an onset hold W/H - 1 times some silence before the first that is full.
_ONSET_FRAMES = _WINDOW // _HOP - 1
# The window has unit energy, so the mean power of the bins is that of the samples.
_SILENCE = 10.0 ** (SILENCE_DB / 10.0)
_TINY = float(np.finfo(np.float32).tiny)

# Gerkmann and Hendriks (2012): their hop is 16 ms, and a factor a per 16 ms is a^(8/16) per 8 ms.
_TRACKER_HOP_SECONDS = 0.016
_NOISE_SMOOTHING = 0.8 ** (_HOP_SECONDS / _TRACKER_HOP_SECONDS)
_PRESENCE_SMOOTHING = 0.9 ** (_HOP_SECONDS / _TRACKER_HOP_SECONDS)
_STUCK_PRESENCE = 0.99
_PRIOR_PRESENCE = 0.5
_SNR_IF_PRESENT = 10.0 ** (15.0 / 10.0)

# Stahl, Fischer and Bippus (2000) take the median; a lower quantile stands a start in the middle of a sentence.
_START_FRAMES = round(1.0 / _HOP_SECONDS)
_START_QUANTILE = 0.1

# Berouti, Schwartz and Makhoul (1979): factor 4 at 0 dB, falling by 3/20 per dB from -5 to 20 dB; spectral floor.
_OVERSUBTRACTION = 4.0
_OVERSUBTRACTION_SLOPE = 3.0 / 20.0
_OVERSUBTRACTION_RANGE_DB = (-5.0, 20.0)
_SPECTRAL_FLOOR = 0.02

# Ephraim and Malah (1984), whose hop is 8 ms too.
_DECISION_DIRECTED = 0.98
# Cappé, IEEE TSAP 2(2), 1994: a floor of the a-priori ratio against musical noise.
_MIN_SNR = 10.0 ** (-15.0 / 10.0)
# A choice of ours: with -20 or -25 dB, weak speech suffers and PESQ of Wiener and log-MMSE falls.
_MIN_GAIN = 10.0 ** (-15.0 / 20.0)


class StatisticalGain(ABC):
    """A real gain for each bin of the mixture's spectrum, derived from the power of mixture and noise."""

    def __init__(self) -> None:
        self._stft = MultiResolutionSTFT((_WINDOW,), _HOP)

    def enhance(self, waveform: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
        """Enhance a whole signal.

        Args:
            waveform: Samples `(samples,)`, full scale ±1.
            sample_rate: 16000 Hz.

        Returns:
            Samples `(samples,)`, aligned; digital silence stays as it is.

        Raises:
            ConfigError: Another rate.
        """
        require_sample_rate(sample_rate)
        spectrum = self._stft.analyse(waveform.astype(np.float64))
        power = np.square(spectrum).sum(axis=0)
        # Digital silence says nothing about the noise beside it, and has nothing to remove.
        audible = power.mean(axis=0) > _SILENCE
        if audible.any():
            power = np.maximum(power[:, audible], _TINY)
            noise, presence = track_noise(power)
            spectrum[..., audible] *= self.gains(power, noise, presence)
        return self._stft.synthesise(spectrum, len(waveform)).astype(np.float32)

    @abstractmethod
    def gains(self, power: Float64Array, noise: Float64Array, presence: Float64Array) -> Float64Array:
        """Gain of every bin.

        Args:
            power: |Y|² of the mixture `(F, N)`, > 0.
            noise: Estimated power of the noise `(F, N)`, > 0.
            presence: Probability of speech `(F, N)`, 0..1.

        Returns:
            Factors `(F, N)`, 0..1.
        """


class SpectralSubtraction(StatisticalGain):
    """Power spectral subtraction that takes more where the frame is noisier, down to a floor.

    Source:
        Berouti, Schwartz and Makhoul, "Enhancement of speech corrupted by acoustic noise", ICASSP 1979.
    """

    def gains(self, power: Float64Array, noise: Float64Array, presence: Float64Array) -> Float64Array:
        """Square root of the share of the power that is left."""
        snr_db = 10.0 * np.log10(power.sum(axis=0) / noise.sum(axis=0))
        factor = _OVERSUBTRACTION - _OVERSUBTRACTION_SLOPE * np.clip(snr_db, *_OVERSUBTRACTION_RANGE_DB)
        share = np.maximum(power - factor * noise, _SPECTRAL_FLOOR * noise) / power
        return np.asarray(np.sqrt(np.minimum(share, 1.0)))


class Wiener(StatisticalGain):
    """Wiener filter with the decision-directed a-priori signal-to-noise ratio.

    Source:
        Scalart and Filho, "Speech enhancement based on a priori signal to noise estimation", ICASSP 1996.
    """

    def gains(self, power: Float64Array, noise: Float64Array, presence: Float64Array) -> Float64Array:
        """SNR / (1 + SNR), down to a floor."""
        return decision_directed(power / noise, lambda prior, _: np.maximum(prior / (1.0 + prior), _MIN_GAIN))


class LogMmse(StatisticalGain):
    """Least error of the log amplitude where speech is present, a constant gain where it is absent.

    The two gains are joined as a geometric mean, weighted with the probability of speech.

    Raises:
        MissingExtraError: The package scipy is not installed.

    Source:
        Ephraim and Malah, IEEE TASSP 33(2), 1985, equation 20: the gain; Cohen, "Optimal speech enhancement under
        signal presence uncertainty using log-spectral amplitude estimator", IEEE SPL 9(4), 2002: the geometric mean;
        Gerkmann and Hendriks (2012), equation 18: the probability.
    """

    def __init__(self) -> None:
        super().__init__()
        require("metrics", "The log-MMSE estimator", "scipy")
        from scipy.special import exp1

        self._exp1: Callable[[Float64Array], Float64Array] = exp1

    def gains(self, power: Float64Array, noise: Float64Array, presence: Float64Array) -> Float64Array:
        """G_present^p G_absent^(1 - p)."""
        if_present = decision_directed(power / noise, self._log_amplitude)
        gains: Float64Array = if_present**presence * _MIN_GAIN ** (1.0 - presence)
        return gains

    def _log_amplitude(self, prior: Float64Array, posterior: Float64Array) -> Float64Array:
        wiener = prior / (1.0 + prior)
        return np.minimum(wiener * np.exp(0.5 * self._exp1(wiener * posterior)), 1.0)


def track_noise(power: FloatArray) -> tuple[Float64Array, Float64Array]:
    """Follow the power of the noise under speech, and the probability that a bin holds speech.

    Where speech is likely, the noise stays as it was; elsewhere it follows the mixture.

    Args:
        power: |Y|² of the mixture `(F, N)`, > 0, one frame each 8 ms.

    Returns:
        Power of the noise `(F, N)`, > 0, and probability of speech `(F, N)`, 0..1.

    Source:
        Gerkmann and Hendriks, "Unbiased MMSE-based noise power estimation with low complexity and low tracking delay",
        IEEE TASLP 20(4), 2012, equations 8, 18, 23 and 24; Stahl, Fischer and Bippus, "Quantile based noise estimation
        for spectral subtraction and Wiener filtering", ICASSP 2000: the start.
    """
    start = power[:, _ONSET_FRAMES:] if power.shape[1] > _ONSET_FRAMES else power
    # The power of a bin of noise is exponentially distributed, so every quantile gives the mean.
    quantile = np.quantile(start[:, :_START_FRAMES], _START_QUANTILE, axis=1)
    estimate = quantile / -np.log1p(-_START_QUANTILE)
    mean_presence = np.full(len(power), _PRIOR_PRESENCE)
    odds = (1.0 - _PRIOR_PRESENCE) / _PRIOR_PRESENCE * (1.0 + _SNR_IF_PRESENT)
    noise, presence = np.empty(power.shape), np.empty(power.shape)
    for frame, now in enumerate(power.T):
        likely = 1.0 / (1.0 + odds * np.exp(-now / estimate * (_SNR_IF_PRESENT / (1.0 + _SNR_IF_PRESENT))))
        mean_presence = _PRESENCE_SMOOTHING * mean_presence + (1.0 - _PRESENCE_SMOOTHING) * likely
        # Noise that has jumped up looks like speech for ever: speech that never pauses is not believed in full.
        likely = np.where(mean_presence > _STUCK_PRESENCE, np.minimum(likely, _STUCK_PRESENCE), likely)
        periodogram = likely * estimate + (1.0 - likely) * now
        estimate = _NOISE_SMOOTHING * estimate + (1.0 - _NOISE_SMOOTHING) * periodogram
        noise[:, frame], presence[:, frame] = estimate, likely
    return noise, presence


def decision_directed(posterior: Float64Array, rule: GainRule) -> Float64Array:
    """Gains of a rule that needs the a-priori signal-to-noise ratio, which depends on the gain of the frame before.

    Args:
        posterior: |Y|² over the power of the noise `(F, N)`, > 0, one frame each 8 ms.
        rule: Gain of one frame from its a-priori and its a-posteriori ratio, each `(F,)`.

    Returns:
        Gains `(F, N)`.

    Source:
        Ephraim and Malah, IEEE TASSP 32(6), 1984, equation 51.
    """
    gains = np.empty_like(posterior)
    before = np.ones(len(posterior))
    for frame, now in enumerate(posterior.T):
        instant = np.maximum(now - 1.0, 0.0)
        prior = np.maximum(_DECISION_DIRECTED * before + (1.0 - _DECISION_DIRECTED) * instant, _MIN_SNR)
        gains[:, frame] = rule(prior, now)
        before = gains[:, frame] ** 2 * now
    return gains
