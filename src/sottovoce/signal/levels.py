"""Levels in decibels: RMS, active speech level, and the gains that set a signal-to-noise ratio."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sottovoce.errors import AudioError

SILENCE_DB = -100.0
"""Level that stands for digital silence; nothing is reported below it."""

# ITU-T P.56 (12/2011), method B: the margin between threshold and active level, the envelope's time constant, hangover.
_MARGIN_DB = 15.9
_FRAME_SECONDS = 0.01
_SMOOTHING_FRAMES = 5
_HANGOVER_FRAMES = 20
_SMOOTHING = np.full(_SMOOTHING_FRAMES, 1.0 / _SMOOTHING_FRAMES)


def to_db(amplitude: ArrayLike) -> NDArray[np.float64]:
    """Convert amplitudes to decibels relative to 1, not below `SILENCE_DB`.

    Args:
        amplitude: Amplitude or RMS of any shape, >= 0, full scale 1.

    Returns:
        Levels of the same shape in dB, at least `SILENCE_DB`.
    """
    floor = 10.0 ** (SILENCE_DB / 20.0)
    return np.asarray(20.0 * np.log10(np.maximum(np.asarray(amplitude, dtype=np.float64), floor)))


def from_db(level_db: ArrayLike) -> NDArray[np.float64]:
    """Convert decibels to amplitudes: the inverse of `to_db`.

    Args:
        level_db: Levels of any shape in dB.

    Returns:
        Amplitudes of the same shape, > 0.
    """
    return np.asarray(10.0 ** (np.asarray(level_db, dtype=np.float64) / 20.0))


def rms(waveform: NDArray[np.floating]) -> float:
    """Root mean square over all samples and channels.

    Args:
        waveform: Samples of any shape, full scale ±1.

    Returns:
        RMS, >= 0; 0 for an empty array.
    """
    if not waveform.size:
        return 0.0
    # float64: a minute of float32 squares loses digits.
    return float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))


def rms_db(waveform: NDArray[np.floating]) -> float:
    """RMS level over all samples and channels.

    Args:
        waveform: Samples of any shape, full scale ±1.

    Returns:
        Level in dB re full scale, at least `SILENCE_DB`.
    """
    return float(to_db(rms(waveform)))


def frame_power(waveform: NDArray[np.floating], frame: int) -> NDArray[np.float64]:
    """Mean square of each whole frame; what is left over at the end is not looked at.

    Args:
        waveform: Samples `(samples,)`.
        frame: Length of a frame in samples, at least 1.

    Returns:
        `(samples // frame,)`.
    """
    count = waveform.size // frame
    power: NDArray[np.float64] = (
        np.square(waveform[: count * frame], dtype=np.float64).reshape(count, frame).mean(axis=1)
    )
    return power


def active_speech_db(waveform: NDArray[np.floating], sample_rate: int) -> float:
    """Active speech level: the level over the time in which somebody speaks.

    The pauses of a speaker do not lower it, so two recordings with equal speech and unequal pauses have equal levels.
    It is P.56's method B on 10 ms frames: the level over the frames above a threshold, where that level exceeds the
    threshold by 15.9 dB.

    Args:
        waveform: Speech with little noise, `(samples,)`, full scale ±1.
        sample_rate: Rate in Hz.

    Returns:
        Level in dB re full scale, at least `SILENCE_DB`.

    Source:
        ITU-T P.56 (12/2011), method B.
    """
    frame = max(1, round(_FRAME_SECONDS * sample_rate))
    energy = frame_power(waveform, frame)
    count = energy.size
    if not count:
        return rms_db(waveform)
    smooth = np.convolve(energy, _SMOOTHING)[:count]
    # A frame is active if the envelope was above the threshold within the hangover: its maximum over that time decides.
    past = np.concatenate([np.zeros(_HANGOVER_FRAMES - 1), smooth])
    envelope = np.lib.stride_tricks.sliding_window_view(past, _HANGOVER_FRAMES).max(axis=1)

    threshold = np.sort(envelope)
    silence = 10.0 ** (SILENCE_DB / 10.0)
    threshold_db = 10.0 * np.log10(np.maximum(threshold, silence))
    return _active(float(energy.sum()), threshold_db, np.arange(count, 0, -1))[0]


def _active(energy: float, threshold_db: NDArray[np.float64], active_frames: NDArray[np.int64]) -> tuple[float, int]:
    """Find the active level, and how many frames are active, from the frames that are so for each rising threshold."""
    level_db = 10.0 * np.log10(np.maximum(energy / active_frames, 10.0 ** (SILENCE_DB / 10.0)))
    # From the lowest threshold up, level minus threshold falls: the first crossing of the margin is the answer.
    crossed = np.flatnonzero(level_db - threshold_db <= _MARGIN_DB)
    chosen = int(crossed[0]) if crossed.size else len(level_db) - 1
    return float(level_db[chosen]), int(active_frames[chosen])


class SpeechActivity:
    """The share of time in which somebody speaks, of speech with little noise that comes in blocks; memory is constant.

    It is the activity factor of P.56's method B: the share of frames that count for `active_speech_db`, with thresholds
    in steps of a quarter of a decibel.

    Args:
        sample_rate: Rate in Hz.

    Source:
        ITU-T P.56 (12/2011), method B.
    """

    _STEP_DB, _TOP_DB = 0.25, 60.0

    def __init__(self, sample_rate: int) -> None:
        self._frame = max(1, round(_FRAME_SECONDS * sample_rate))
        self._power = np.zeros(0)
        self._energies = np.zeros(_SMOOTHING_FRAMES - 1)
        self._smooth = np.zeros(_HANGOVER_FRAMES - 1)
        self._energy = 0.0
        self._counts = np.zeros(round((self._TOP_DB - SILENCE_DB) / self._STEP_DB) + 1, np.int64)

    def push(self, block: NDArray[np.floating]) -> None:
        """Take some samples.

        Args:
            block: Samples `(channels, n)`, full scale ±1; any n.
        """
        power = np.concatenate([self._power, np.square(block, dtype=np.float64).mean(axis=0)])
        count = power.size // self._frame
        self._power = power[count * self._frame :]
        if not count:
            return
        energy = power[: count * self._frame].reshape(count, self._frame).mean(axis=1)
        energies = np.concatenate([self._energies, energy])
        smooth = np.concatenate([self._smooth, np.convolve(energies, _SMOOTHING, "valid")])
        self._energies, self._smooth = energies[count:], smooth[count:]
        self._energy += float(energy.sum())
        envelope = np.lib.stride_tricks.sliding_window_view(smooth, _HANGOVER_FRAMES).max(axis=1)
        steps = (to_db(np.sqrt(envelope)) - SILENCE_DB) / self._STEP_DB
        np.add.at(self._counts, np.minimum(steps.astype(np.int64), self._counts.size - 1), 1)

    @property
    def share(self) -> float:
        """The share of time so far, 0 to 1: 0 for digital silence, and for what is shorter than 10 ms."""
        found = np.flatnonzero(self._counts)
        if not found.size or found[-1] == 0:
            return 0.0
        active_frames = np.cumsum(self._counts[::-1])[::-1][found]
        threshold_db = np.asarray(SILENCE_DB + found * self._STEP_DB, np.float64)
        return _active(self._energy, threshold_db, active_frames)[1] / int(self._counts.sum())


def noise_gain_for_snr(
    speech: NDArray[np.floating], noise: NDArray[np.floating], snr_db: float, sample_rate: int
) -> float:
    """Gain that the noise needs for a wanted signal-to-noise ratio over active speech.

    Args:
        speech: Speech as it reaches the microphone, `(samples,)`, full scale ±1.
        noise: Noise that is added to it, `(samples,)`, full scale ±1.
        snr_db: Active speech level minus RMS level of the noise, in dB.
        sample_rate: Rate of both in Hz.

    Returns:
        Factor for the noise, > 0.

    Raises:
        AudioError: Speech or noise is silent, so that no ratio exists.
    """
    speech_db = active_speech_db(speech, sample_rate)
    noise_db = rms_db(noise)
    for name, level_db in (("speech", speech_db), ("noise", noise_db)):
        if level_db <= SILENCE_DB:
            raise AudioError(f"found silent {name}, expected a signal to mix at {snr_db:g} dB: leave it out")
    return float(from_db(speech_db - snr_db - noise_db))


def peak_gain(waveforms: Iterable[NDArray[np.floating]], ceiling: float = 0.98) -> float:
    """Common gain that keeps every waveform under a peak, and never amplifies.

    Args:
        waveforms: Arrays of any shape that must keep their ratio to one another.
        ceiling: Greatest absolute sample allowed, > 0.

    Returns:
        Factor for all of them, in (0, 1].
    """
    peak = max((float(np.abs(waveform).max(initial=0.0)) for waveform in waveforms), default=0.0)
    return 1.0 if peak <= ceiling else ceiling / peak
