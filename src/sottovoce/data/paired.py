"""Mixtures with their own clean versions: for the supervised systems that the others are compared with, alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sottovoce.data.manifest import Manifest, Recording
from sottovoce.data.unpaired import Purpose, UnpairedBatch, UnpairedClips
from sottovoce.errors import DataError
from sottovoce.signal import audio, levels

# Far from the numbers of the parts that `UnpairedClips` draws: equal seeds must not give equal draws.
_PAIRS = 100


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
            raise DataError(f"found no clean version of {mixture.path} in {clean}, expected {name} there.")
        info = audio.probe(found[name])
        if (info.frames, info.sample_rate) != (mixture.frames, mixture.sample_rate):
            raise DataError(
                f"found {info.frames} samples at {info.sample_rate} Hz in {found[name]}, expected {mixture.frames} at "
                f"{mixture.sample_rate} Hz as in its mixture {mixture.path}."
            )
        pairs.append(TrainingPair(mixture, found[name]))
    return tuple(pairs)


class PairedClips:
    """Batches of a supervised system: clips of pairs stand where the unpaired systems have pseudo-pairs.

    Args:
        clips: Where everything else comes from.
        pairs: Mixtures and clean versions.
        count: Pairs of a batch.
        clip_seconds: Length of a clip.
        level_db: Range of the level of the mixtures, full scale 0 dB.
        sample_rate: Rate of the clips in Hz.
        seed: Seed of all draws.
    """

    def __init__(
        self,
        clips: UnpairedClips,
        pairs: Sequence[TrainingPair],
        *,
        count: int,
        clip_seconds: float,
        level_db: tuple[float, float],
        sample_rate: int,
        seed: int,
    ) -> None:
        self._clips = clips
        self._pairs = pairs
        self._count = count
        self._samples = round(clip_seconds * sample_rate)
        self._level_db = level_db
        self._rate = sample_rate
        self._seed = seed

    def batch(self, step: int, purpose: Purpose) -> UnpairedBatch:
        """Draw the batch of a step: as `UnpairedClips.batch`, with pairs in `pseudo_mixtures` and `pseudo_targets`."""
        rng = np.random.default_rng([self._seed, step, _PAIRS])
        drawn = [self._draw(rng) for _ in range(self._count)]
        clean = np.stack([clean for _, clean in drawn])
        return self._clips.batch(step, purpose)._replace(
            pseudo_mixtures=np.stack([mixture for mixture, _ in drawn]),
            pseudo_targets=clean,
            pseudo_reverberant=clean,  # A clean version does not tell what of its mixture is the room's.
        )

    def _draw(self, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        pair = self._pairs[int(rng.integers(len(self._pairs)))]
        wanted = min(pair.mixture.frames, -(-self._samples * pair.mixture.sample_rate // self._rate))
        start = int(rng.integers(pair.mixture.frames - wanted + 1))
        mixture, clean = (self._read(path, start, wanted) for path in (pair.mixture.path, pair.clean))
        found_db = levels.rms_db(mixture)
        if found_db <= levels.SILENCE_DB:
            return mixture, clean
        gain = np.float32(levels.from_db(rng.uniform(*self._level_db) - found_db))
        return mixture * gain, clean * gain

    def _read(self, path: Path, start: int, frames: int) -> NDArray[np.float32]:
        waveform, rate = audio.read(path, start=start, frames=frames)
        clip = audio.resample(waveform.mean(axis=0), rate, self._rate)[: self._samples]
        return np.pad(clip, (0, self._samples - clip.size))
