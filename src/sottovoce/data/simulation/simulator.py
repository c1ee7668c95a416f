"""Simulated mixtures: clean speech of anyone, in a simulated room, plus noise; what is to be kept of them is known."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sottovoce.config import SimulationSettings
from sottovoce.data.corpora.clips import NoiseClips, SpeechClips
from sottovoce.data.simulation.augmentation import at_random_level, band_limited, coloured, log_uniform, played
from sottovoce.data.simulation.delivery import with_effort, with_held_vowel, with_pause, without_room_noise
from sottovoce.data.simulation.rooms import Room, in_hall
from sottovoce.data.simulation.synthetic import SOURCE_KINDS, swell, synthetic_noise
from sottovoce.data.simulation.transmission import coded, equalised, microphone_error
from sottovoce.errors import AudioError
from sottovoce.signal import levels

Float32Array = NDArray[np.float32]

_BABBLE_SPEAKERS = (3, 8)
# A crowd of 18 to 42 people; reading more clips would cost more than it varies.
_CROWD_CLIPS, _CROWD_COPIES, _CROWD_DB = 6, (3, 7), (-12.0, 0.0)
# How much further away a speaker is than the room was made for.
_FURTHER = (1.0, 4.0)
_CUTOFF_HZ = (3000.0, 7500.0)
_SECOND_NOISE_DB = (-12.0, 0.0)
# Range of the pauses before words; those longer than a clip allows stand at its beginning.
_PAUSE_SECONDS = (0.3, 5.0)
# What counts as the direct sound, which loudspeaker and microphone smear.
_DIRECT_MS = 1.0
# In a quiet place the noise is up to so far below the speech, or there is none, as after a gate.
_QUIET_SNR_DB, _NOISELESS_SHARE = 50.0, 0.5


class SimulatedMixture(NamedTuple):
    """A simulated mixture and what is in it, float32 `(samples,)`, full scale ±1.

    Attributes:
        mixture: Speech in a room plus noise: harvested from recordings, babble, or made.
        target: The speech in it, with early reflections and, if wanted, a faster decay of the later ones.
        reverberant: The speech in it as it stands in its room, without the noise.
        room: What of the room the target keeps, as in `engine.metadata.ROOMS`.
    """

    mixture: Float32Array
    target: Float32Array
    reverberant: Float32Array
    room: tuple[float, float]


class _Sound(NamedTuple):
    """A clip, and up to where its recording is whole."""

    clip: Float32Array
    highest_hz: float


class Simulator:
    """Makes simulated mixtures.

    Args:
        speech: Clean speech.
        noise: Noise of recordings.
        rooms: Simulated rooms; perhaps none.
        settings: Numbers and ranges.
        level_db: Range of the level of a mixture in dB, full scale 0 dB.
        samples: Length of a mixture.
        sample_rate: Rate in Hz.
    """

    def __init__(
        self,
        speech: SpeechClips,
        noise: NoiseClips,
        rooms: Sequence[Room],
        *,
        settings: SimulationSettings,
        level_db: tuple[float, float],
        samples: int,
        sample_rate: int,
    ) -> None:
        self._speech, self._noise, self._rooms = speech, noise, rooms
        self._settings = settings
        self._level_db = level_db
        self._samples = samples
        self._rate = sample_rate

    def draw(
        self, speech_rng: np.random.Generator, noise_rng: np.random.Generator, mix_rng: np.random.Generator
    ) -> SimulatedMixture:
        """Draw speech of anyone in a simulated room with noise, and that speech with early sound.

        Args:
            speech_rng: Source of what is drawn of the speech.
            noise_rng: Source of what is drawn of the noise.
            mix_rng: Source of room, ratio, band and level.

        Returns:
            The mixture and what is to be kept of it.
        """
        settings = self._settings
        speed, speaker = speech_rng.uniform(*settings.speech.speed), self._speech.speaker(speech_rng)
        voice = played(partial(self._speech.draw, speaker=speaker), self._samples, speed, speech_rng)
        if settings.speech.held_vowel_share and speech_rng.random() < settings.speech.held_vowel_share:
            voice = with_held_vowel(voice, self._rate, speech_rng)
        if settings.speech.effort_share and speech_rng.random() < settings.speech.effort_share:
            voice = with_effort(voice, self._rate, speech_rng)
        if settings.speech.pause_share and speech_rng.random() < settings.speech.pause_share:
            voice = with_pause(voice, _PAUSE_SECONDS, self._rate, speech_rng)
        # What the clean recording's own room adds between words is noise of the mixture, and not in the target.
        both = np.stack([without_room_noise(voice, self._rate), voice])
        dry, reverberant = coloured(both, settings.random_filter, speech_rng)
        target = dry
        keeps, is_dry = self._kept(mix_rng)
        if self._rooms and mix_rng.random() < settings.room.share:
            room = self._rooms[int(mix_rng.integers(len(self._rooms)))]
            if settings.room.far_share and mix_rng.random() < settings.room.far_share:
                room = room.from_further_away(log_uniform(_FURTHER, mix_rng))
            reverberant = room.apply(reverberant)
            target = self._target(dry, room, keeps=keeps, is_dry=is_dry)
        noise, noise_highest_hz = self._mixture_noise(noise_rng)
        snr_db = mix_rng.uniform(*settings.snr_db)
        if settings.quiet_share and mix_rng.random() < settings.quiet_share:
            snr_db = mix_rng.uniform(settings.snr_db[1], _QUIET_SNR_DB)
            if mix_rng.random() < _NOISELESS_SHARE:
                noise = np.zeros_like(noise)
        # Voice and noise end where the lower of them does, as in a recording. A network would learn where
        # they end, and take for noise the highs of any voice that reaches up to half the rate.
        cutoff_hz = min(speed * self._speech.highest_hz(speaker), noise_highest_hz)
        if mix_rng.random() < settings.band_limited_share:
            cutoff_hz = min(cutoff_hz, mix_rng.uniform(*_CUTOFF_HZ))
        target, reverberant, noise = (
            band_limited(clip, cutoff_hz, self._rate) for clip in (target, reverberant, noise)
        )
        try:
            mixture = reverberant + noise * np.float32(
                levels.noise_gain_for_snr(reverberant, noise, snr_db, self._rate)
            )
        except AudioError:  # a silent stretch of speech or noise has no ratio: the speech stays as it is
            mixture = reverberant
        mixture, target, reverberant = self._recorded(np.stack([mixture, target, reverberant]), cutoff_hz, mix_rng)
        target = with_remainder(target, mixture, settings.attenuation_db)
        levelled = at_random_level(mixture, self._level_db, mix_rng)
        found = levels.rms(mixture)
        gain = np.float32(levels.rms(levelled) / found if found else 1.0)
        return SimulatedMixture(levelled, target * gain, reverberant * gain, (float(keeps), float(is_dry)))

    def _target(self, dry: Float32Array, room: Room, *, keeps: bool, is_dry: bool) -> Float32Array:
        """What is to be kept of dry speech in a room."""
        settings = self._settings.room
        if keeps:
            return room.apply(dry)
        if is_dry:
            return room.apply_early(dry, _DIRECT_MS)
        if settings.target_t60_seconds:
            return room.apply_damped(dry, settings.target_t60_seconds, settings.early_ms)
        return room.apply_early(dry, settings.early_ms)

    def _kept(self, rng: np.random.Generator) -> tuple[bool, bool]:
        """Whether the target keeps the whole room, or none of it; drawn for mixtures without a room as well."""
        room = self._settings.room
        if not room.keep_share and not room.dry_share:
            return False, False
        chance = rng.random()
        return chance < room.keep_share, room.keep_share <= chance < room.keep_share + room.dry_share

    def _recorded(self, clips: Float32Array, cutoff_hz: float, rng: np.random.Generator) -> Float32Array:
        """Mixture, target and voice `(3, T)` as a device gives them; what it adds is in the mixture alone."""
        settings = self._settings
        if settings.equaliser_share and rng.random() < settings.equaliser_share:
            clips = equalised(clips, self._rate, rng)
        if settings.microphone_share and rng.random() < settings.microphone_share:
            error = microphone_error(clips[0], self._rate, rng)
            # Nor must what is added give away where the voice ends.
            clips[0] += band_limited(error, cutoff_hz, self._rate)
        if settings.codec_share and rng.random() < settings.codec_share:
            clips = coded(clips, cutoff_hz, self._rate, rng)
        return clips

    def _one_noise(self, rng: np.random.Generator) -> _Sound:
        """Noise of one kind: of the recordings, or made."""
        settings = self._settings
        chance = rng.random()
        if chance < settings.noise.synthetic_share:
            kind = None
            if settings.noise.source_share and rng.random() < settings.noise.source_share:
                kind = SOURCE_KINDS[int(rng.integers(len(SOURCE_KINDS)))]
            return _Sound(synthetic_noise(self._samples, self._rate, rng, kind), self._rate / 2)
        speed = rng.uniform(*settings.noise.speed)
        draw, highest = self._babble, self._rate / 2
        if chance >= settings.noise.synthetic_share + settings.noise.babble_share:
            source = self._noise.source(rng)
            draw, highest = partial(self._noise.draw, source=source), self._noise.highest_hz(source)
        elif settings.noise.crowd_share and rng.random() < settings.noise.crowd_share:
            draw = self._crowd
        noise = played(draw, self._samples, speed, rng)
        if rng.random() < settings.noise.reversed_share:
            noise = noise[::-1]
        if rng.random() < settings.noise.swelling_share:
            noise = noise * swell(self._samples, self._rate, rng).astype(np.float32)
        return _Sound(coloured(noise, settings.random_filter, rng), highest)

    def _mixture_noise(self, rng: np.random.Generator) -> _Sound:
        """The noise of a simulated mixture: of one kind, or of two at once."""
        noise, highest = self._one_noise(rng)
        if rng.random() < self._settings.noise.second_share:
            second, its_highest = self._one_noise(rng)
            below = levels.from_db(rng.uniform(*_SECOND_NOISE_DB))
            noise = noise + second * np.float32(below * levels.rms(noise) / max(levels.rms(second), 1e-9))
            highest = min(highest, its_highest)
        return _Sound(noise, highest)

    def _babble(self, samples: int, rng: np.random.Generator) -> Float32Array:
        """Several people at once. With few speakers the target speaker may be among them, as an echo of a room."""
        voices = [self._speech.draw(samples, rng) for _ in range(int(rng.integers(*_BABBLE_SPEAKERS, endpoint=True)))]
        babble = np.zeros(samples, np.float32)
        for voice in voices:
            babble += voice / np.float32(max(levels.rms(voice), 1e-6))
        return babble

    def _crowd(self, samples: int, rng: np.random.Generator) -> Float32Array:
        """Dozens of people in a hall: a few voices, each at several times, from near and far."""
        crowd = np.zeros(samples, np.float32)
        for _ in range(_CROWD_CLIPS):
            voice = self._speech.draw(samples, rng)
            voice = voice / np.float32(max(levels.rms(voice), 1e-6))
            for shift in rng.integers(samples, size=int(rng.integers(*_CROWD_COPIES, endpoint=True))):
                crowd += np.roll(voice, shift) * np.float32(levels.from_db(rng.uniform(*_CROWD_DB)))
        return in_hall(crowd, self._rate, rng)


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
