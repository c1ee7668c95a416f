"""Gains for what lies above the model's band, which the network never receives."""

import math

import numpy as np

from sottovoce.engine.model import Float32Array
from sottovoce.signal.queue import SampleQueue
from sottovoce.signal.stft import MultiResolutionSTFT
from sottovoce.signal.windows import sliding_windows

# The upper part of the model's band, as shares of the lower of both rates: 4 to 7.5 kHz at 16 kHz and above.
_UPPER_BAND = (0.25, 0.47)
# The model's gain there is a ratio of energies over this time: shorter, and it flickers; longer, and it lags.
_UPPER_SECONDS = 0.05
# Where there is hardly more than this (140 dB below full scale) there is nothing to take a gain from, and it is 1.
_SILENCE = np.float32(1e-14)

# A frame is a pause if the model's gain is below this share of the way from its least gain to 1.
_PAUSE = 0.25
# Time constants of the noise floor: short in pauses, so that a word behind a click is kept; longer in words, where the
# floor can only fall, and would follow the lowest values of noise that fluctuates.
_FLOOR_SECONDS, _FLOOR_FALL_SECONDS = 0.05, 0.1
# What exceeds the noise floor times this is speech.
_OVERSUBTRACTION = 1.5
# Time constants of the gain in pauses: the first frames behind a word, whose gain is larger, count little.
_PAUSE_RISE_SECONDS, _PAUSE_FALL_SECONDS = 1.0, 0.1
# The share of speech rises at once, so that onsets pass, and falls with this time constant.
_RELEASE_SECONDS = 0.03
_MIN_GAIN = 1e-6
# Samples of all channels that are measured at once, which bounds the memory.
_SAMPLES_AT_ONCE = 2**19


def power(spectra: Float32Array) -> Float32Array:
    """Squared amplitude.

    Args:
        spectra: Real and imaginary parts `(..., 2, F, N)`.

    Returns:
        `(..., F, N)`.
    """
    return np.square(spectra[..., 0, :, :]) + np.square(spectra[..., 1, :, :])


class UpperBand:
    """Gains over time for what lies above the model's band.

    The model's gain g in the upper part of its own band is about right in pauses and in fricatives. In vowels it is
    near 1, and noise above the band would come back with every vowel. So the octave above the band is measured in the
    recording itself. Its noise floor is learned in pauses, and the gain is the smaller one of g and the share of what
    exceeds that floor, but no smaller than g is in pauses. Until the first pause, and in recordings that have nothing
    above the model's band, it is g.

    Args:
        stft: The frames of the model.
        model_rate: The model's rate in Hz.
        sample_rate: Rate of the recording in Hz.
        channels: Number of channels of the recording.
        linked: One gain for all channels, in place of one for each.
        floor: Least gain of the model, 0 to 1.
    """

    def __init__(
        self,
        stft: MultiResolutionSTFT,
        model_rate: int,
        sample_rate: int,
        channels: int,
        *,
        linked: bool = False,
        floor: float = 0.0,
    ) -> None:
        rows = 1 if linked else channels
        share = min(1.0, sample_rate / model_rate) * stft.window
        self._bins = slice(int(_UPPER_BAND[0] * share), int(_UPPER_BAND[1] * share) + 1)
        frames = max(1, round(_UPPER_SECONDS * model_rate / stft.hop))
        self._energies = np.zeros((2, rows, frames - 1), np.float32)
        self._model_rate, self._sample_rate, self._hop = model_rate, sample_rate, stft.hop
        # A gain acts where the synthesis window is, at the end of its frame: this is what is measured.
        length = max(1, stft.synthesis_window * sample_rate // model_rate)
        self._taper = np.hanning(length + 2)[1:-1].astype(np.float32)
        self._transform = 1 << (length - 1).bit_length()
        self._octave = slice(*(1 + hertz * self._transform // sample_rate for hertz in (model_rate // 2, model_rate)))
        self._waiting = SampleQueue(channels)
        self._waiting.append(np.zeros((channels, length), np.float32))
        self._taken = 0
        # Frames that were measured, and where the last of them ended.
        self._measured = 0
        self._end = 0
        self._frames_at_once = max(1, _SAMPLES_AT_ONCE // (channels * length))
        self._above = SampleQueue(rows)
        self._flush = np.zeros((channels, -(-(stft.window + stft.hop) * sample_rate // model_rate)), np.float32)
        seconds = stft.hop / model_rate
        self._floors = [_NoiseFloor(seconds, pause=floor + _PAUSE * (1 - floor)) for _ in range(rows)]

    def append(self, samples: Float32Array, last: bool = False) -> None:
        """Take samples of the recording, before `gains` is asked for the frames that they are in.

        Args:
            samples: `(channels, n)` at the recording's rate.
            last: No more samples will come.
        """
        if self._sample_rate <= self._model_rate:
            return
        for part in (samples, self._flush) if last else (samples,):
            self._waiting.append(part)
            self._taken += part.shape[1]
        complete = ((self._taken + 1) * self._model_rate - 1) // (self._hop * self._sample_rate)
        while self._measured < complete:
            self._measure(min(self._frames_at_once, complete - self._measured))

    def gains(self, enhanced: Float32Array, mixture: Float32Array) -> Float32Array:
        """Gains of the next frames.

        Args:
            enhanced: Spectra that the model gave, `(rows, 2, F, N)`; one row if the channels are linked.
            mixture: Spectra that it was given.

        Returns:
            `(rows, N)`, 0 to 1.
        """
        energies = np.stack([power(part[:, :, self._bins]).mean(axis=1) for part in (enhanced, mixture)])
        past = self._energies.shape[-1]
        energies = np.concatenate([self._energies, energies], axis=-1)
        self._energies = energies[..., energies.shape[-1] - past :]
        after, before = sliding_windows(energies, past + 1).mean(axis=-1) + _SILENCE
        gains: Float32Array = np.minimum(np.sqrt(after / before), np.float32(1))
        if self._sample_rate <= self._model_rate:
            return gains
        above = self._above.take(gains.shape[1])
        limited = [
            [floor.limited(gain, energy) for gain, energy in zip(*row, strict=True)]
            for floor, *row in zip(self._floors, gains.tolist(), above.tolist(), strict=True)
        ]
        return np.array(limited, np.float32)

    def _measure(self, count: int) -> None:
        """Take the energy of the next frames in the octave above the model's band."""
        ends = (self._measured + 1 + np.arange(count)) * self._hop * self._sample_rate // self._model_rate
        frames = sliding_windows(self._waiting.waiting(), self._taper.size)
        spectra = np.fft.rfft(frames[:, ends - self._end] * self._taper, self._transform)[..., self._octave]
        self._waiting.take(int(ends[-1]) - self._end)
        self._measured, self._end = self._measured + count, int(ends[-1])
        energy = np.square(spectra.real).sum(axis=-1) + np.square(spectra.imag).sum(axis=-1)
        self._above.append(energy if len(self._floors) == len(energy) else energy.mean(axis=0, keepdims=True))


class _NoiseFloor:
    """Noise above the model's band: how loud it is, and what the model's gain leaves of it in pauses.

    Args:
        seconds: Distance of frames.
        pause: Frames with a gain below this are pauses.
    """

    def __init__(self, seconds: float, pause: float) -> None:
        self._pause = pause
        self._energy: float | None = None
        self._log_gain = 0.0
        self._share = 1.0
        self._step, self._fall = _step(seconds, _FLOOR_SECONDS), _step(seconds, _FLOOR_FALL_SECONDS)
        self._gain_rise, self._gain_fall = _step(seconds, _PAUSE_RISE_SECONDS), _step(seconds, _PAUSE_FALL_SECONDS)
        self._release = 1 - _step(seconds, _RELEASE_SECONDS)

    def limited(self, gain: float, energy: float) -> float:
        """Gain of the next frame.

        Args:
            gain: The model's gain in the upper part of its band.
            energy: Energy above the band.
        """
        pause = gain < self._pause
        if self._energy is None:
            if not pause:
                return gain
            self._energy, self._log_gain = energy, math.log(max(gain, _MIN_GAIN))
        if pause:
            self._energy += self._step * (energy - self._energy)
            change = math.log(max(gain, _MIN_GAIN)) - self._log_gain
            self._log_gain += (self._gain_rise if change > 0 else self._gain_fall) * change
        elif energy < self._energy:
            # Speech and noise together are no less than the noise.
            self._energy += self._fall * (energy - self._energy)
        noise = _OVERSUBTRACTION * self._energy
        share = math.sqrt(1 - noise / energy) if energy > noise else 0.0
        self._share = max(share, math.exp(self._log_gain), self._release * self._share)
        return min(gain, self._share)


def _step(seconds: float, time_constant: float) -> float:
    """Share of the distance to its input that a first-order low-pass goes in a time."""
    return 1 - math.exp(-seconds / time_constant)
