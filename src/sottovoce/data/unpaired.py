"""What a training step sees: clips of clean speech and of noisy recordings, drawn independently of each other.

A batch is a pure function of seed and step: an interrupted training goes on with the batches that it would have seen.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sottovoce.config import DataSettings
from sottovoce.data.delivery import with_held_vowel, with_pause
from sottovoce.data.harvest import NoiseStretch, stationary_noise
from sottovoce.data.manifest import Manifest, Recording
from sottovoce.data.rooms import Room
from sottovoce.data.synthetic import swell, synthetic_noise
from sottovoce.errors import AudioError
from sottovoce.signal import audio, levels
from sottovoce.signal.resampling import resample

Float32Array = NDArray[np.float32]
Draw = Callable[[int, np.random.Generator], Float32Array]
Purpose = Literal["speech", "joint", "check"]
PURPOSES: tuple[Purpose, ...] = ("speech", "joint", "check")

_CROSSFADE_SECONDS = 0.02
_BABBLE_TALKERS = (3, 8)
_CUTOFF_HZ, _EDGE_SHARE = (3000.0, 7500.0), 0.1
_PASSBAND = 0.95  # of half the rate: soxr passes so much within some dB
_SECOND_NOISE_DB = (-12.0, 0.0)
# Range of the pauses before words; those longer than a clip allows stand at its beginning.
_PAUSE_SECONDS = (0.3, 5.0)
# In a quiet place the noise is up to so far below the speech, or there is none, as after a gate.
_QUIET_SNR_DB, _NOISELESS_SHARE = 50.0, 0.5
# The recursive part of a filter with such poles is below -100 dB after this many samples.
_FILTER_TAIL = 256
# What a transform takes for periodic rings where its end meets its beginning.
_MARGIN = 256
# Multiples of these have no large prime factor that would slow a transform down.
_FAST_SIZE, _SPEED_STEP = 4096, 256
# Draws of the parts of a batch come from generators of their own, so that no part depends on another's.
_SPEECH, _MIXTURES, _NOISE, _PSEUDO_SPEECH, _PSEUDO_NOISE, _PSEUDO_MIX = range(6)


class UnpairedBatch(NamedTuple):
    """Clips of one step, float32 `(clips, samples)`, full scale ±1.

    Attributes:
        speech: Clean speech.
        mixtures: Noisy recordings.
        noise: Noise-only stretches of the noisy recordings; perhaps none.
        simulated_mixtures: Clean speech in a simulated room plus noise: harvested from the recordings, babble, or made.
        simulated_targets: The speech in them, with early reflections and, if wanted, a faster decay of the later ones.
        simulated_reverberant: The speech in them as it stands in their room, without the noise.
    """

    speech: Float32Array
    mixtures: Float32Array
    noise: Float32Array
    simulated_mixtures: Float32Array
    simulated_targets: Float32Array
    simulated_reverberant: Float32Array


class _Sound(NamedTuple):
    """A clip, and up to where its recording is whole."""

    clip: Float32Array
    highest_hz: float


class _PseudoPair(NamedTuple):
    """A simulated mixture, its target, and its speech in the room."""

    mixture: Float32Array
    target: Float32Array
    reverberant: Float32Array


class UnpairedClips:
    """Draws batches from clean speech and noisy recordings.

    Args:
        speech: Clean speech.
        mixtures: Noisy recordings.
        stretches: Noise-only stretches of these recordings. Without any, the stationary part of the recordings' noise
            stands in: Gaussian noise with the spectrum of their quietest frames.
        rooms: Simulated rooms for simulated mixtures.
        settings: Numbers and ranges.
        sample_rate: Rate of the clips in Hz.
        seed: Seed of all draws.
    """

    def __init__(
        self,
        speech: Manifest,
        mixtures: Manifest,
        stretches: Sequence[NoiseStretch],
        *,
        rooms: Sequence[Room],
        settings: DataSettings,
        sample_rate: int,
        seed: int,
    ) -> None:
        self._groups = [
            [recording for recording in speech.recordings if recording.group == group] for group in speech.groups
        ]
        self._group_shares = _shares([sum(r.seconds for r in group) for group in self._groups])
        self._voice_highest_hz = [min(_highest_hz(r.sample_rate, sample_rate) for r in group) for group in self._groups]
        self._mixtures = mixtures.recordings
        self._mixture_shares = _shares([recording.seconds for recording in self._mixtures])
        by_path: dict[object, list[NoiseStretch]] = {}
        for stretch in stretches:
            by_path.setdefault(stretch.recording.path, []).append(stretch)
        self._stretches = list(by_path.values())
        self._noise_shares = (
            _shares([sum(s.seconds for s in part) for part in self._stretches])
            if self._stretches
            else self._mixture_shares
        )
        self._noise_highest_hz = [
            _highest_hz(recording.sample_rate, sample_rate)
            for recording in ([part[0].recording for part in self._stretches] or self._mixtures)
        ]
        self._rooms = rooms
        self._settings = settings
        self._rate = sample_rate
        self._samples = round(settings.clip_seconds * sample_rate)
        self._seed = seed

    def batch(self, step: int, purpose: Purpose) -> UnpairedBatch:
        """Draw the batch of a step.

        Args:
            step: Number of the step, from 0.
            purpose: The speech stage takes clean speech alone, the joint stage all but that, a check everything.

        Returns:
            The same clips for the same seed, purpose and step; none of a kind that the purpose does not take.
        """

        def generator(part: int) -> np.random.Generator:
            return np.random.default_rng([self._seed, PURPOSES.index(purpose), step, part])

        settings = self._settings
        speech: list[Float32Array] = []
        mixtures: list[Float32Array] = []
        noise: list[Float32Array] = []
        pseudo: list[_PseudoPair] = []
        if purpose != "joint":
            rng = generator(_SPEECH)
            speech = [self._at_level(self._speech(self._samples, rng), rng) for _ in range(settings.speech_clips)]
        if purpose != "speech":
            rng = generator(_MIXTURES)
            mixtures = [self._at_level(self._mixture(rng), rng) for _ in range(settings.mixture_clips)]
            rng = generator(_NOISE)
            noise = [self._at_level(self._noise(self._samples, rng), rng) for _ in range(settings.noise_clips)]
            sources = generator(_PSEUDO_SPEECH), generator(_PSEUDO_NOISE), generator(_PSEUDO_MIX)
            pseudo = [self._pseudo_pair(*sources) for _ in range(settings.simulated_clips)]
        return UnpairedBatch(
            self._stack(speech),
            self._stack(mixtures),
            self._stack(noise),
            self._stack([pair.mixture for pair in pseudo]),
            self._stack([pair.target for pair in pseudo]),
            self._stack([pair.reverberant for pair in pseudo]),
        )

    def _stack(self, clips: Sequence[Float32Array]) -> Float32Array:
        return np.array(clips, np.float32).reshape(len(clips), self._samples)

    def _read(self, recording: Recording, start: int, frames: int) -> Float32Array:
        """Mono samples at the rate of the clips; `start` and `frames` count at the recording's own."""
        waveform, rate = audio.read(recording.path, start=start, frames=frames)
        return resample(waveform.mean(axis=0), rate, self._rate)

    def _crop(self, recording: Recording, samples: int, rng: np.random.Generator) -> Float32Array:
        """Up to `samples` samples from a random place."""
        wanted = min(recording.frames, -(-samples * recording.sample_rate // self._rate))
        start = int(rng.integers(recording.frames - wanted + 1))
        return self._read(recording, start, wanted)[:samples]

    def _speaker(self, rng: np.random.Generator) -> int:
        return int(rng.choice(len(self._groups), p=self._group_shares))

    def _speech(self, samples: int, rng: np.random.Generator, speaker: int | None = None) -> Float32Array:
        """Speech of one speaker, by default of anyone; short utterances follow one another."""
        group = self._groups[self._speaker(rng) if speaker is None else speaker]
        clip = np.zeros(0, np.float32)
        while clip.size < samples:
            recording = group[rng.integers(len(group))]
            clip = np.concatenate([clip, self._crop(recording, samples - clip.size, rng)])
        return clip

    def _mixture(self, rng: np.random.Generator) -> Float32Array:
        recording = self._mixtures[rng.choice(len(self._mixtures), p=self._mixture_shares)]
        clip = self._crop(recording, self._samples, rng)
        return np.pad(clip, (0, self._samples - clip.size))

    def _noise_source(self, rng: np.random.Generator) -> int:
        """A recording with noise-only stretches; where none has any, one of all."""
        return int(rng.choice(len(self._noise_shares), p=self._noise_shares))

    def _noise(self, samples: int, rng: np.random.Generator, source: int | None = None) -> Float32Array:
        """A clip of noise of one recording: its noise-only stretches, crossfaded into one another."""
        source = self._noise_source(rng) if source is None else source
        if not self._stretches:
            # Not padded: the silence behind a short recording is not its noise.
            return stationary_noise(self._crop(self._mixtures[source], self._samples, rng), samples, rng)
        stretches = self._stretches[source]
        fade = round(_CROSSFADE_SECONDS * self._rate)
        ramp = np.sqrt(np.linspace(0, 1, fade, dtype=np.float32))
        clip = np.zeros(0, np.float32)
        while clip.size < samples:
            stretch = stretches[rng.integers(len(stretches))]
            wanted = min(stretch.frames, -(-(samples + fade) * stretch.recording.sample_rate // self._rate))
            start = stretch.start + int(rng.integers(stretch.frames - wanted + 1))
            piece = self._read(stretch.recording, start, wanted)
            if clip.size and piece.size > 2 * fade:
                piece[:fade] = piece[:fade] * ramp + clip[-fade:] * ramp[::-1]
                clip = clip[:-fade]
            clip = np.concatenate([clip, piece])
        return clip[:samples]

    def _babble(self, samples: int, rng: np.random.Generator) -> Float32Array:
        """Several people at once. With few speakers the target speaker may be among them, as an echo of a room."""
        voices = [self._speech(samples, rng) for _ in range(int(rng.integers(*_BABBLE_TALKERS, endpoint=True)))]
        babble = np.zeros(samples, np.float32)
        for voice in voices:
            babble += voice / np.float32(max(levels.rms(voice), 1e-6))
        return babble

    def _one_noise(self, rng: np.random.Generator) -> _Sound:
        """Noise of one kind: of the recordings, or made."""
        settings = self._settings.simulation
        chance = rng.random()
        if chance < settings.noise.synthetic_share:
            return _Sound(synthetic_noise(self._samples, self._rate, rng), self._rate / 2)
        speed = rng.uniform(*settings.noise.speed)
        draw, highest = self._babble, self._rate / 2
        if chance >= settings.noise.synthetic_share + settings.noise.babble_share:
            source = self._noise_source(rng)
            draw, highest = partial(self._noise, source=source), self._noise_highest_hz[source]
        noise = played(draw, self._samples, speed, rng)
        if rng.random() < settings.noise.reversed_share:
            noise = noise[::-1]
        if rng.random() < settings.noise.swelling_share:
            noise = noise * swell(self._samples, self._rate, rng).astype(np.float32)
        return _Sound(coloured(noise, settings.random_filter, rng), highest)

    def _pseudo_noise(self, rng: np.random.Generator) -> _Sound:
        """The noise of a simulated mixture: of one kind, or of two at once."""
        noise, highest = self._one_noise(rng)
        if rng.random() < self._settings.simulation.noise.second_share:
            second, its_highest = self._one_noise(rng)
            below = levels.from_db(rng.uniform(*_SECOND_NOISE_DB))
            noise = noise + second * np.float32(below * levels.rms(noise) / max(levels.rms(second), 1e-9))
            highest = min(highest, its_highest)
        return _Sound(noise, highest)

    def _at_level(self, clip: Float32Array, rng: np.random.Generator) -> Float32Array:
        """The clip at a random level; a silent one stays silent."""
        level_db = rng.uniform(*self._settings.level_db)
        found_db = levels.rms_db(clip)
        return clip if found_db <= levels.SILENCE_DB else clip * np.float32(levels.from_db(level_db - found_db))

    def _band_limited(self, *clips: Float32Array, cutoff_hz: float) -> list[Float32Array]:
        """Clips as from a telephone or an old coder: nothing above a frequency, a smooth edge below it."""
        size = _transform_size(self._samples)
        below = (cutoff_hz - np.fft.rfftfreq(size, 1.0 / self._rate)) / (_EDGE_SHARE * cutoff_hz)
        gain = np.square(np.sin(0.5 * np.pi * np.clip(below, 0.0, 1.0))).astype(np.float32)
        return [np.fft.irfft(np.fft.rfft(clip, size) * gain, size)[: clip.size].astype(np.float32) for clip in clips]

    def _pseudo_pair(
        self, speech_rng: np.random.Generator, noise_rng: np.random.Generator, mix_rng: np.random.Generator
    ) -> _PseudoPair:
        """Speech of anyone in a simulated room with noise, and that speech with early sound."""
        settings = self._settings.simulation
        speed, speaker = speech_rng.uniform(*settings.speech.speed), self._speaker(speech_rng)
        voice = played(partial(self._speech, speaker=speaker), self._samples, speed, speech_rng)
        if settings.speech.held_vowel_share and speech_rng.random() < settings.speech.held_vowel_share:
            voice = with_held_vowel(voice, self._rate, speech_rng)
        if settings.speech.pause_share and speech_rng.random() < settings.speech.pause_share:
            voice = with_pause(voice, _PAUSE_SECONDS, self._rate, speech_rng)
        target = reverberant = coloured(voice, settings.random_filter, speech_rng)
        if self._rooms and mix_rng.random() < settings.room.share:
            room = self._rooms[int(mix_rng.integers(len(self._rooms)))]
            dry, reverberant = target, room.apply(target)
            if settings.room.target_t60_seconds:
                target = room.apply_damped(dry, settings.room.target_t60_seconds, settings.room.early_ms)
            else:
                target = room.apply_early(dry, settings.room.early_ms)
        noise, noise_highest_hz = self._pseudo_noise(noise_rng)
        snr_db = mix_rng.uniform(*settings.snr_db)
        if settings.quiet_share and mix_rng.random() < settings.quiet_share:
            snr_db = mix_rng.uniform(settings.snr_db[1], _QUIET_SNR_DB)
            if mix_rng.random() < _NOISELESS_SHARE:
                noise = np.zeros_like(noise)
        # Voice and noise end where the lower of them does, as in a recording. A network would learn where
        # they end, and take for noise the highs of any voice that reaches up to half the rate.
        cutoff_hz = min(speed * self._voice_highest_hz[speaker], noise_highest_hz)
        if mix_rng.random() < settings.band_limited_share:
            cutoff_hz = min(cutoff_hz, mix_rng.uniform(*_CUTOFF_HZ))
        if cutoff_hz < self._rate / 2:
            target, reverberant, noise = self._band_limited(target, reverberant, noise, cutoff_hz=cutoff_hz)
        try:
            mixture = reverberant + noise * np.float32(
                levels.noise_gain_for_snr(reverberant, noise, snr_db, self._rate)
            )
        except AudioError:  # a silent stretch of speech or noise has no ratio: the speech stays as it is
            mixture = reverberant
        target = with_remainder(target, mixture, settings.attenuation_db)
        levelled = self._at_level(mixture, mix_rng)
        found = levels.rms(mixture)
        gain = np.float32(levels.rms(levelled) / found if found else 1.0)
        return _PseudoPair(levelled, target * gain, reverberant * gain)


def played(draw: Draw, samples: int, speed: float, rng: np.random.Generator) -> Float32Array:
    """Speed perturbation of a clip: pitch, formants and pace of another voice, size of another source.

    The spectrum is cut at half the rate, without the slope of a resampler's filter: a network would know altered
    voices by that slope, and take what reaches up to half the rate for noise.

    Args:
        draw: Gives so many samples `(..., n)`.
        samples: Wanted length T.
        speed: 1 as it is recorded, above it faster. A slower clip has nothing above `speed` times half the rate.
        rng: Source of the draw.

    Returns:
        Samples `(..., T)`.
    """
    if speed == 1.0:
        return draw(samples, rng)
    size = _transform_size(samples + 2 * _MARGIN)
    recorded = draw(_SPEED_STEP * round(size * speed / _SPEED_STEP), rng)
    heard = np.fft.irfft(np.fft.rfft(recorded), size) * (size / recorded.shape[-1])
    clip: Float32Array = heard[..., _MARGIN : _MARGIN + samples].astype(np.float32)
    return clip


def with_remainder(target: Float32Array, mixture: Float32Array, attenuation_db: float | None) -> Float32Array:
    """A target in which what is removed from the mixture stays audible.

    Args:
        target: Samples `(T,)` of what is to be kept.
        mixture: Samples `(T,)`.
        attenuation_db: How far below the mixture the rest stays, in dB; None to remove it wholly.

    Returns:
        Samples `(T,)`.
    """
    if attenuation_db is None:
        return target
    return target + np.float32(levels.from_db(-attenuation_db)) * (mixture - target)


def coloured(clips: Float32Array, most: float, rng: np.random.Generator) -> Float32Array:
    """Clips through one random filter of second order: other voices, microphones and distances from few.

    Args:
        clips: Samples `(..., T)`.
        most: Range of the coefficients, below 0.5; 0 for no filter.
        rng: Source of the coefficients.

    Returns:
        Samples of the same shape.

    Source:
        Valin, "A hybrid DSP/deep learning approach to real-time full-band speech enhancement" (2018), section IV.
    """
    if not most:
        return clips
    samples = clips.shape[-1]
    zeros, poles = rng.uniform(-most, most, (2, 2))
    size = _transform_size(samples + _FILTER_TAIL)
    response = (np.fft.rfft([1, *zeros], size) / np.fft.rfft([1, *poles], size)).astype(np.complex64)
    return np.fft.irfft(np.fft.rfft(clips, size) * response, size)[..., :samples].astype(np.float32)


def _transform_size(samples: int) -> int:
    """So many samples or a few more, which a transform is fast with."""
    return -(-samples // _FAST_SIZE) * _FAST_SIZE


def _highest_hz(recorded_rate: int, sample_rate: int) -> float:
    """Up to where a recording at one rate is whole at another one: a resampler's filter needs room for its slope."""
    share = 1.0 if recorded_rate == sample_rate else _PASSBAND
    return share * min(recorded_rate, sample_rate) / 2


def _shares(seconds: Sequence[float]) -> NDArray[np.float64]:
    """Chances of being drawn: the square root of the length, so that who has much does not drown the others."""
    roots = np.sqrt(np.array(seconds, np.float64))
    shares: NDArray[np.float64] = roots / roots.sum() if roots.size else roots
    return shares
