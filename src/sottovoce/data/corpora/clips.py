"""Clips from random places of recordings: clean speech, noisy recordings, and the noise in them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sottovoce.data.corpora.harvest import NoiseStretch, stationary_noise
from sottovoce.data.corpora.manifest import Manifest, Recording
from sottovoce.signal.resampling import resample

Float32Array = NDArray[np.float32]

_CROSSFADE_SECONDS = 0.02
_PASSBAND = 0.95  # of half the rate: soxr passes so much within some dB


class SpeechClips:
    """Clips of clean speech of one speaker.

    Args:
        speech: Clean speech; its groups are the speakers.
        sample_rate: Rate of the clips in Hz.
    """

    def __init__(self, speech: Manifest, sample_rate: int) -> None:
        self._groups = [
            [recording for recording in speech.recordings if recording.group == group] for group in speech.groups
        ]
        self._shares = _shares([sum(r.seconds for r in group) for group in self._groups])
        self._highest_hz = [min(_highest_hz(r.sample_rate, sample_rate) for r in group) for group in self._groups]
        self._rate = sample_rate

    def speaker(self, rng: np.random.Generator) -> int:
        """Draw the number of a speaker."""
        return int(rng.choice(len(self._groups), p=self._shares))

    def highest_hz(self, speaker: int) -> float:
        """Up to which frequency all recordings of a speaker are whole, in Hz."""
        return self._highest_hz[speaker]

    def draw(self, samples: int, rng: np.random.Generator, speaker: int | None = None) -> Float32Array:
        """Draw a clip; short utterances follow one another.

        Args:
            samples: Wanted length T.
            rng: Source of the draw.
            speaker: Number of the speaker; None for anyone.

        Returns:
            Samples `(T,)`.
        """
        group = self._groups[self.speaker(rng) if speaker is None else speaker]
        clip = np.zeros(0, np.float32)
        while clip.size < samples:
            recording = group[rng.integers(len(group))]
            clip = np.concatenate([clip, _crop(recording, samples - clip.size, self._rate, rng)])
        return clip


class RecordingClips:
    """Clips of noisy recordings.

    Args:
        recordings: Noisy recordings.
        sample_rate: Rate of the clips in Hz.
    """

    def __init__(self, recordings: Manifest, sample_rate: int) -> None:
        self._recordings = recordings.recordings
        self._shares = _shares([recording.seconds for recording in self._recordings])
        self._rate = sample_rate

    def draw(self, samples: int, rng: np.random.Generator) -> Float32Array:
        """Draw a clip; a short recording ends in silence.

        Args:
            samples: Wanted length T.
            rng: Source of the draw.

        Returns:
            Samples `(T,)`.
        """
        recording = self._recordings[rng.choice(len(self._recordings), p=self._shares)]
        clip = _crop(recording, samples, self._rate, rng)
        return np.pad(clip, (0, samples - clip.size))


class NoiseClips:
    """Clips of the noise of one recording.

    Args:
        recordings: Noisy recordings.
        stretches: Noise-only stretches of these recordings. Without any, the stationary part of the recordings' noise
            stands in: Gaussian noise with the spectrum of their quietest frames.
        analysed: Samples of a recording in which those frames are looked for.
        sample_rate: Rate of the clips in Hz.
    """

    def __init__(
        self, recordings: Manifest, stretches: Sequence[NoiseStretch], *, analysed: int, sample_rate: int
    ) -> None:
        by_path: dict[object, list[NoiseStretch]] = {}
        for stretch in stretches:
            by_path.setdefault(stretch.recording.path, []).append(stretch)
        self._stretches = list(by_path.values())
        self._recordings = [part[0].recording for part in self._stretches] or recordings.recordings
        self._shares = _shares(
            [sum(s.seconds for s in part) for part in self._stretches] or [r.seconds for r in self._recordings]
        )
        self._analysed = analysed
        self._rate = sample_rate

    def source(self, rng: np.random.Generator) -> int:
        """Draw the number of a recording with noise-only stretches; where none has any, of one of all."""
        return int(rng.choice(len(self._shares), p=self._shares))

    def highest_hz(self, source: int) -> float:
        """Up to which frequency a recording is whole, in Hz."""
        return _highest_hz(self._recordings[source].sample_rate, self._rate)

    def draw(self, samples: int, rng: np.random.Generator, source: int | None = None) -> Float32Array:
        """Draw a clip: noise-only stretches of a recording, crossfaded into one another.

        Args:
            samples: Wanted length T.
            rng: Source of the draw.
            source: Number of the recording; None for any.

        Returns:
            Samples `(T,)`.
        """
        source = self.source(rng) if source is None else source
        if not self._stretches:
            # Not padded: the silence behind a short recording is not its noise.
            return stationary_noise(_crop(self._recordings[source], self._analysed, self._rate, rng), samples, rng)
        stretches = self._stretches[source]
        fade = round(_CROSSFADE_SECONDS * self._rate)
        ramp = np.sqrt(np.linspace(0, 1, fade, dtype=np.float32))
        clip = np.zeros(0, np.float32)
        while clip.size < samples:
            stretch = stretches[rng.integers(len(stretches))]
            wanted = min(stretch.frames, -(-(samples + fade) * stretch.recording.sample_rate // self._rate))
            start = stretch.start + int(rng.integers(stretch.frames - wanted + 1))
            piece = _read(stretch.recording, start, wanted, self._rate)
            if clip.size and piece.size > 2 * fade:
                piece[:fade] = piece[:fade] * ramp + clip[-fade:] * ramp[::-1]
                clip = clip[:-fade]
            clip = np.concatenate([clip, piece])
        return clip[:samples]


def _read(recording: Recording, start: int, frames: int, sample_rate: int) -> Float32Array:
    """Mono samples at another rate; `start` and `frames` count at the recording's own."""
    waveform, rate = recording.read(start, frames)
    return resample(waveform.mean(axis=0), rate, sample_rate)


def _crop(recording: Recording, samples: int, sample_rate: int, rng: np.random.Generator) -> Float32Array:
    """Up to `samples` samples from a random place."""
    wanted = min(recording.frames, -(-samples * recording.sample_rate // sample_rate))
    start = int(rng.integers(recording.frames - wanted + 1))
    return _read(recording, start, wanted, sample_rate)[:samples]


def _highest_hz(recorded_rate: int, sample_rate: int) -> float:
    """Up to where a recording at one rate is whole at another one: a resampler's filter needs room for its slope."""
    share = 1.0 if recorded_rate == sample_rate else _PASSBAND
    return share * min(recorded_rate, sample_rate) / 2


def _shares(seconds: Sequence[float]) -> NDArray[np.float64]:
    """Chances of being drawn: the square root of the length, so that who has much does not drown the others."""
    roots = np.sqrt(np.array(seconds, np.float64))
    shares: NDArray[np.float64] = roots / roots.sum() if roots.size else roots
    return shares
