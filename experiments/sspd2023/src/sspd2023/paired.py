"""Mixtures with their own clean versions: for the supervised systems that the others are compared with, alone."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sottovoce.config import DataSettings
from sottovoce.data.corpora.manifest import Manifest, Recording
from sottovoce.data.sampling import Purpose, UnpairedBatch
from sottovoce.data.simulation.augmentation import coloured, played
from sottovoce.data.simulation.simulator import with_remainder
from sottovoce.errors import AudioError, DataError
from sottovoce.signal import audio, levels
from sottovoce.signal.resampling import resample
from sottovoce.training.module import Clips

# Far from the numbers of the parts that `UnpairedClips` draws: equal seeds must not give equal draws.
_PAIRS = 100
# Of the pairs with variety, those whose speech meets what is not speech in another recording.
_REMIXED_SHARE = 0.5


@dataclass(frozen=True)
class TrainingPair:
    """A mixture and its clean version.

    Attributes:
        mixture: The noisy recording.
        clean: File of the speech in it, aligned with it and as long.
    """

    mixture: Recording
    clean: Path


def match_pairs(mixtures: Manifest, folder: Path, clean: Path) -> tuple[TrainingPair, ...]:
    """Find the clean version of every mixture by its path below the folder, without suffix.

    Args:
        mixtures: Noisy recordings.
        folder: The folder that they were found in.
        clean: Folder of the clean versions.

    Returns:
        One pair per mixture, in order.

    Raises:
        DataError: A mixture has no clean version, or one of another length.
    """
    found = {path.relative_to(clean).with_suffix(""): path for path in audio.find_audio(clean)}
    pairs = []
    for mixture in mixtures.recordings:
        name = mixture.path.relative_to(folder).with_suffix("")
        if name not in found:
            raise DataError(f"found no clean version of {mixture.path} in {clean}, expected {name} there")
        info = audio.probe(found[name])
        if (info.frames, info.sample_rate) != (mixture.frames, mixture.sample_rate):
            raise DataError(
                f"found {info.frames} samples at {info.sample_rate} Hz in {found[name]}, expected {mixture.frames} at "
                f"{mixture.sample_rate} Hz as in its mixture {mixture.path}"
            )
        pairs.append(TrainingPair(mixture, found[name]))
    return tuple(pairs)


class PairedClips:
    """Batches of a supervised system: clips of pairs stand where the unpaired systems have simulated pairs.

    Args:
        clips: Where everything else comes from.
        pairs: Mixtures and clean versions.
        settings: Numbers and ranges: pairs of a batch are its `simulated_clips`.
        varied: Whether they get the variety of simulated pairs.
        sample_rate: Rate of the clips in Hz.
        seed: Seed of all draws.
    """

    def __init__(
        self,
        clips: Clips,
        pairs: Sequence[TrainingPair],
        *,
        settings: DataSettings,
        varied: bool,
        sample_rate: int,
        seed: int,
    ) -> None:
        self._clips = clips
        self._pairs = pairs
        self._settings = settings
        self._with_variety = varied
        self._samples = round(settings.clip_seconds * sample_rate)
        self._rate = sample_rate
        self._seed = seed

    def batch(self, step: int, purpose: Purpose) -> UnpairedBatch:
        """Draw the batch of a step: as `UnpairedClips.batch`, with pairs where that has simulated mixtures."""
        rng = np.random.default_rng([self._seed, step, _PAIRS])
        drawn = [self._draw(rng) for _ in range(self._settings.simulated_clips)]
        clean = np.stack([clean for _, clean in drawn])
        return self._clips.batch(step, purpose)._replace(
            simulated_mixtures=np.stack([mixture for mixture, _ in drawn]),
            simulated_targets=clean,
            simulated_rooms=np.zeros((len(clean), 2), np.float32),
            simulated_reverberant=clean,  # A clean version does not show what of its mixture is the room's.
        )

    def _draw(self, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """A mixture and its clean version, under one gain."""
        mixture, clean = self._varied(rng) if self._with_variety else self._clip(self._samples, rng)
        found_db = levels.rms_db(mixture)
        if found_db <= levels.SILENCE_DB:
            return mixture, clean
        gain = np.float32(levels.from_db(rng.uniform(*self._settings.level_db) - found_db))
        return mixture * gain, clean * gain

    def _clip(self, samples: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """A mixture and its clean version `(2, samples)` from a random place of a random pair."""
        pair = self._pairs[int(rng.integers(len(self._pairs)))]
        wanted = min(pair.mixture.frames, -(-samples * pair.mixture.sample_rate // self._rate))
        start = int(rng.integers(pair.mixture.frames - wanted + 1))
        return np.stack([self._read(path, start, wanted, samples) for path in (pair.mixture.path, pair.clean)])

    def _varied(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """A clip of a pair with the variety that `UnpairedClips` gives its simulated pairs.

        Source:
            Défossez, Synnaeve and Adi, "Real time speech enhancement in the waveform domain" (2020): noises of a batch
            change places ("remix").
        """
        settings = self._settings
        mixture, clean = self._other_pair(rng)
        rest = mixture - clean
        if rng.random() < _REMIXED_SHARE:
            other, its_clean = self._other_pair(rng)
            snr_db = rng.uniform(*settings.simulation.snr_db)
            with contextlib.suppress(AudioError):  # where one of them is silent there is no ratio
                rest = other - its_clean
                rest = rest * np.float32(levels.noise_gain_for_snr(clean, rest, snr_db, self._rate))
        return np.stack([clean + rest, with_remainder(clean, clean + rest, settings.simulation.attenuation_db)])

    def _other_pair(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """A pair at another speed and through another microphone."""
        pair = played(self._clip, self._samples, rng.uniform(*self._settings.simulation.speech.speed), rng)
        return coloured(pair, self._settings.simulation.random_filter, rng)

    def _read(self, path: Path, start: int, frames: int, samples: int) -> NDArray[np.float32]:
        waveform, rate = audio.read(path, start=start, frames=frames)
        clip = resample(waveform.mean(axis=0), rate, self._rate)[:samples]
        return np.pad(clip, (0, samples - clip.size))
