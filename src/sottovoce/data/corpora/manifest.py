"""Which recordings a folder holds, what they are, and how they are split without a speaker on both sides."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sottovoce.atomic import replacing
from sottovoce.errors import AudioError, DataError
from sottovoce.progress import TaskProgress
from sottovoce.signal import audio, levels

MIN_SECONDS = 0.5
"""Shorter recordings are of no use."""

_WINDOW_SECONDS = 60.0


@dataclass(frozen=True)
class Recording:
    """One readable audio file.

    Attributes:
        path: Where the file is.
        group: Speaker or session: the first sub-folder below the scanned folder, else the file's own name. A split
            keeps the recordings of a group together.
        sample_rate: Rate in Hz.
        channels: Number of channels.
        frames: Length in samples per channel.
        level_db: RMS level over all channels in dB re full scale.
    """

    path: Path
    group: str
    sample_rate: int
    channels: int
    frames: int
    level_db: float

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.frames / self.sample_rate

    def read(self, start: int = 0, frames: int | None = None) -> tuple[NDArray[np.float32], int]:
        """Read the recording, or a part of it, as `signal.audio.read` does."""
        return audio.read(self.path, start=start, frames=frames)


@dataclass(frozen=True)
class Unusable:
    """One audio file that cannot be used.

    Attributes:
        path: Where the file is.
        reason: Why, as a sentence.
    """

    path: Path
    reason: str


@dataclass(frozen=True)
class Manifest:
    """The audio files of a folder.

    Attributes:
        recordings: What can be used, sorted by path.
        unusable: What cannot, with the reason.
    """

    recordings: tuple[Recording, ...]
    unusable: tuple[Unusable, ...] = ()

    @property
    def seconds(self) -> float:
        """Length of all recordings together in seconds."""
        return sum(recording.seconds for recording in self.recordings)

    @property
    def groups(self) -> tuple[str, ...]:
        """Speakers or sessions, sorted."""
        return tuple(sorted({recording.group for recording in self.recordings}))

    def save(self, path: Path) -> None:
        """Write one JSON object per line, recordings first; the file is replaced as a whole or not at all.

        Args:
            path: File to write, by habit `*.jsonl`.
        """
        entries: tuple[Recording | Unusable, ...] = (*self.recordings, *self.unusable)
        lines = [json.dumps(asdict(entry), default=str) for entry in entries]
        with replacing(path) as temporary:
            temporary.write_text("".join(line + "\n" for line in lines), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Manifest":
        """Read what `save` wrote.

        Args:
            path: File to read.

        Returns:
            The manifest; the audio files themselves are not looked at.

        Raises:
            DataError: The file is missing or is not a manifest.
        """
        recordings: list[Recording] = []
        unusable: list[Unusable] = []
        try:
            for line in path.read_text(encoding="utf-8").splitlines():
                entry: dict[str, Any] = json.loads(line)
                entry["path"] = Path(entry["path"])
                if "reason" in entry:
                    unusable.append(Unusable(**entry))
                else:
                    recordings.append(Recording(**entry))
        except FileNotFoundError:
            raise DataError(f"found no manifest {path}: make one with `scan`") from None
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"found {path}, which is no manifest of sottovoce ({error}): make it again") from error
        return cls(tuple(recordings), tuple(unusable))


def scan(folder: Path, *, min_seconds: float = MIN_SECONDS, progress: TaskProgress | None = None) -> Manifest:
    """Look at every audio file below a folder.

    Args:
        folder: Where to look, sub-folders included.
        min_seconds: Shorter files are unusable.
        progress: Called with (files done, files in all) after every file.

    Returns:
        Recordings sorted by path, and the files that cannot be used: damaged, empty, too short, silent, or of a kind
        that only PyAV reads.

    Raises:
        DataError: No audio file can be used.
    """
    try:
        paths = audio.find_audio(folder)
    except AudioError as error:
        raise DataError(str(error)) from error
    recordings: list[Recording] = []
    unusable: list[Unusable] = []
    for done, path in enumerate(paths, start=1):
        try:
            recordings.append(_examine(path, folder, min_seconds))
        except AudioError as error:
            unusable.append(Unusable(path, str(error)))
        if progress is not None:
            progress(done, len(paths))
    if not recordings:
        raise DataError(
            f"found {len(paths)} audio files below {folder}, of which none can be used; the first: {unusable[0].reason}"
        )
    return Manifest(tuple(recordings), tuple(unusable))


def split(manifest: Manifest, fractions: Sequence[float], rng: np.random.Generator) -> tuple[Manifest, ...]:
    """Divide recordings by length, so that no speaker or session is in two parts.

    Args:
        manifest: What to divide; its unusable files go nowhere.
        fractions: Wanted share of the seconds per part, each > 0, together 1.
        rng: Where the order of the groups comes from.

    Returns:
        One manifest per fraction, none of them empty, groups disjoint, recordings in the order of `manifest`.

    Raises:
        DataError: The fractions are not shares, or there are fewer groups than parts.
    """
    if not fractions or min(fractions) <= 0 or not math.isclose(sum(fractions), 1.0, abs_tol=1e-6):
        raise DataError(f"found the fractions {list(fractions)}, expected positive shares that add up to 1")
    seconds = dict.fromkeys(manifest.groups, 0.0)
    if len(seconds) < len(fractions):
        raise DataError(
            f"found {len(seconds)} speakers or sessions to divide into {len(fractions)} parts: "
            "give each speaker or session a sub-folder of its own, or ask for fewer parts"
        )
    for recording in manifest.recordings:
        seconds[recording.group] += recording.seconds

    missing = [fraction * manifest.seconds for fraction in fractions]
    members: list[set[str]] = [set() for _ in fractions]
    order = [manifest.groups[index] for index in rng.permutation(len(seconds))]
    for position, group in enumerate(order):
        empty = [part for part, names in enumerate(members) if not names]
        # The last groups go where nothing is yet; before that, the part that lacks most takes the next.
        candidates = empty if len(order) - position <= len(empty) else range(len(fractions))
        part = max(candidates, key=lambda index: missing[index])
        members[part].add(group)
        missing[part] -= seconds[group]
    return tuple(
        Manifest(tuple(recording for recording in manifest.recordings if recording.group in names)) for names in members
    )


def probe_drawable(path: Path, min_seconds: float = MIN_SECONDS) -> audio.AudioInfo:
    """Find out what a recording is, if pieces can be drawn from any place in it.

    Args:
        path: A sound file.
        min_seconds: Shorter files are refused.

    Returns:
        Format, rate, channels and length.

    Raises:
        AudioError: It cannot be read, is too short, or is of a kind that only PyAV reads.
    """
    if path.suffix.lower() in audio.PYAV_SUFFIXES or (info := audio.probe(path)).needs_pyav:
        raise AudioError(
            f"{path} would be decoded from its beginning for every piece that is drawn from it: convert it first with "
            f"`ffmpeg -i {path.name} {path.stem}.flac`"
        )
    if info.frames < min_seconds * info.sample_rate:
        raise AudioError(f"{path} lasts {info.frames / info.sample_rate:.2f} s, expected at least {min_seconds:g} s")
    return info


def _examine(path: Path, folder: Path, min_seconds: float) -> Recording:
    """Read one file in windows, so that damage in its middle is found and a long one fits in memory."""
    info = probe_drawable(path, min_seconds)
    window = round(_WINDOW_SECONDS * info.sample_rate)
    energy = 0.0
    for start in range(0, info.frames, window):
        waveform, _ = audio.read(path, start=start, frames=min(window, info.frames - start))
        energy += float(np.square(waveform, dtype=np.float64).mean(axis=0).sum())
    level_db = float(levels.to_db(math.sqrt(energy / info.frames)))
    if level_db <= levels.SILENCE_DB:
        raise AudioError(f"{path} is silent: leave it out")
    below = path.relative_to(folder)
    group = below.parts[0] if len(below.parts) > 1 else below.stem
    return Recording(path, group, info.sample_rate, info.channels, info.frames, level_db)
