"""What a training step sees: clips of clean speech and of noisy recordings, drawn independently of each other.

A batch is a pure function of seed and step: an interrupted training goes on with the batches that it would have seen.
"""

from collections.abc import Sequence
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sottovoce.config import DataSettings
from sottovoce.data.corpora.clips import NoiseClips, RecordingClips, SpeechClips
from sottovoce.data.corpora.harvest import NoiseStretch
from sottovoce.data.corpora.manifest import Manifest
from sottovoce.data.corpora.stream import RecordingStream, Window
from sottovoce.data.simulation.augmentation import at_random_level
from sottovoce.data.simulation.rooms import Room
from sottovoce.data.simulation.simulator import SimulatedMixture, Simulator

Float32Array = NDArray[np.float32]
Purpose = Literal["speech", "joint", "check", "joint learning"]
PURPOSES: tuple[Purpose, ...] = ("speech", "joint", "check", "joint learning")

# Draws of the parts of a batch come from generators of their own, so that no part depends on another's.
_SPEECH, _MIXTURES, _NOISE, _SIMULATED_SPEECH, _SIMULATED_NOISE, _SIMULATED_MIX = range(6)


class UnpairedBatch(NamedTuple):
    """Clips of one step, float32 `(clips, samples)`, full scale ±1.

    Attributes:
        speech: Clean speech.
        mixtures: Noisy recordings.
        noise: Noise-only stretches of the noisy recordings; perhaps none.
        simulated_mixtures: Clean speech in a simulated room plus noise.
        simulated_targets: The speech in them, with early reflections and, if wanted, a faster decay of the later ones.
        simulated_reverberant: The speech in them as it stands in their room, without the noise.
        simulated_rooms: What of the room the targets keep, `(clips, 2)`; see `engine.metadata.ROOMS`.
    """

    speech: Float32Array
    mixtures: Float32Array
    noise: Float32Array
    simulated_mixtures: Float32Array
    simulated_targets: Float32Array
    simulated_reverberant: Float32Array
    simulated_rooms: Float32Array


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
        samples = round(settings.clip_seconds * sample_rate)
        self._speech = SpeechClips(speech, sample_rate)
        self._mixtures = RecordingClips(mixtures, sample_rate)
        self._noise = NoiseClips(mixtures, stretches, analysed=samples, sample_rate=sample_rate)
        self._simulator = Simulator(
            self._speech,
            self._noise,
            rooms,
            settings=settings.simulation,
            level_db=settings.level_db,
            samples=samples,
            sample_rate=sample_rate,
        )
        self._settings = settings
        self._samples = samples
        self._seed = seed

    def batch(self, step: int, purpose: Purpose) -> UnpairedBatch:
        """Draw the batch of a step.

        Args:
            step: Number of the step, from 0.
            purpose: The speech stage takes clean speech alone, the joint stage all but that; a check, and a joint stage
                in which the speech autoencoder learns as well, everything.

        Returns:
            The same clips for the same seed, purpose and step; none of a kind that the purpose does not take.
        """

        def generator(part: int) -> np.random.Generator:
            return np.random.default_rng([self._seed, PURPOSES.index(purpose), step, part])

        settings, samples = self._settings, self._samples
        speech: list[Float32Array] = []
        mixtures: list[Float32Array] = []
        noise: list[Float32Array] = []
        simulated: list[SimulatedMixture] = []
        if purpose != "joint":
            rng = generator(_SPEECH)
            speech = [self._at_level(self._speech.draw(samples, rng), rng) for _ in range(settings.speech_clips)]
        if purpose != "speech":
            rng = generator(_MIXTURES)
            mixtures = [self._at_level(self._mixtures.draw(samples, rng), rng) for _ in range(settings.mixture_clips)]
            rng = generator(_NOISE)
            noise = [self._at_level(self._noise.draw(samples, rng), rng) for _ in range(settings.noise_clips)]
            sources = generator(_SIMULATED_SPEECH), generator(_SIMULATED_NOISE), generator(_SIMULATED_MIX)
            simulated = [self._simulator.draw(*sources) for _ in range(settings.simulated_clips)]
        return UnpairedBatch(
            self._stack(speech),
            self._stack(mixtures),
            self._stack(noise),
            self._stack([each.mixture for each in simulated]),
            self._stack([each.target for each in simulated]),
            self._stack([each.reverberant for each in simulated]),
            np.array([each.room for each in simulated], np.float32).reshape(len(simulated), 2),
        )

    def _stack(self, clips: Sequence[Float32Array]) -> Float32Array:
        return np.array(clips, np.float32).reshape(len(clips), self._samples)

    def _at_level(self, clip: Float32Array, rng: np.random.Generator) -> Float32Array:
        return at_random_level(clip, self._settings.level_db, rng)


class StreamedClips:
    """Draws each batch from other recordings: those of streams that are in memory when its turn comes.

    Args:
        speech: Clean speech: a stream, or recordings that are all there.
        mixtures: Noisy recordings, likewise.
        rooms: Simulated rooms for simulated mixtures.
        settings: Numbers and ranges.
        sample_rate: Rate of the clips in Hz.
        seed: Seed of all draws.
    """

    def __init__(
        self,
        speech: RecordingStream | Window,
        mixtures: RecordingStream | Window,
        *,
        rooms: Sequence[Room],
        settings: DataSettings,
        sample_rate: int,
        seed: int,
    ) -> None:
        self._speech, self._mixtures = speech, mixtures
        self._clips = partial(UnpairedClips, rooms=rooms, settings=settings, sample_rate=sample_rate, seed=seed)

    def batch(self, step: int, purpose: Purpose) -> UnpairedBatch:
        """Draw the batch of a step, as `UnpairedClips` does from recordings that are all there.

        Args:
            step: Number of the batch, from 0.
            purpose: As of `UnpairedClips.batch`.

        Returns:
            The same clips for the same seed, purpose and number.

        Raises:
            DataError: No recording of an epoch can be used.
            StorageError: This machine has no room for copies of recordings.
        """
        speech = _window(self._speech, step)
        # The speech stage takes none of them.
        mixtures = _window(self._mixtures, step) if purpose != "speech" else Window(Manifest(()))
        return self._clips(speech.recordings, mixtures.recordings, mixtures.stretches).batch(step, purpose)


def _window(recordings: RecordingStream | Window, number: int) -> Window:
    return recordings if isinstance(recordings, Window) else recordings.window(number)
