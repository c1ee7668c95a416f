"""Clean signals of an experiment: utterances of one speaker, joined with short pauses."""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sottovoce.data.corpora.folders import new_folder, read_or_clear, write_hashed, write_table
from sottovoce.data.corpora.manifest import Manifest, Recording
from sottovoce.data.simulation.mixtures import deal_out, members, read_mono
from sottovoce.errors import DataError
from sottovoce.progress import TaskProgress
from sottovoce.signal import levels
from sspd2023.baselines.system import SAMPLE_RATE

TABLE = "signals.csv"
"""Name of the table beside the signals."""

_PAUSE_RANGE_SECONDS = (0.2, 0.5)
_LEVEL_DB = -26.0
_MIN_SECONDS = 0.5
_FRAME_SECONDS = 0.01
_ONSET_DB = -20.0  # below the active level; a fricative may begin softer
_ONSET_MARGIN_SECONDS = 0.05
_PAUSE_DB = -20.0  # A stretch of a long recording so far below the recording's level is a pause.


@dataclass(frozen=True)
class Signal:
    """How one joined signal was made: a row of the table.

    Attributes:
        file: Name of the file, from the folder of the signals.
        speaker: Who speaks.
        seconds: Length.
        speech: Speech files in order, joined by `|`.
        seed: Seed of the draws of all signals.
        sha256: Hash of the file.
    """

    file: str
    speaker: str
    seconds: float
    speech: str
    seed: int
    sha256: str


class _Utterance(NamedTuple):
    """An utterance, or a stretch of a long recording, without the silence around it and at `_LEVEL_DB`."""

    path: Path
    waveform: NDArray[np.float32]


def make_signals(
    speech: Manifest,
    folder: Path,
    *,
    count: int,
    seconds: float,
    seed: int,
    again: bool,
    progress: TaskProgress | None,
) -> list[Signal]:
    """Make signals of joined utterances, `<speaker>/<nn>.flac`, or find them made.

    Speakers take turns, so that each gives as many as any other. Utterances are cut to what is spoken and levelled to
    an active level of -26 dB re full scale; signals have one channel at 16 kHz.

    Args:
        speech: Clean dry speech; its groups are the speakers.
        folder: Folder to make; it appears as a whole or not at all.
        count: Signals to make; fewer are made where the speech does not suffice.
        seconds: Greatest length of a signal.
        seed: Seed of all draws, >= 0.
        again: Whether utterances come again when a speaker has no more; otherwise it gives no further signal.
        progress: Called with (signals made, signals in all) after every signal.

    Returns:
        One row per signal, in order.

    Raises:
        DataError: No utterance is long enough.
        AudioError: A file cannot be read.
    """
    rows = read_or_clear(folder, TABLE, Signal, lambda row: {row.file: row.sha256})
    if rows:
        return rows
    rows = []
    length = round(seconds * SAMPLE_RATE)
    order = deal_out(speech.groups, len(speech.groups), np.random.default_rng(seed))
    given = dict.fromkeys(order, 0)
    draws = {speaker: np.random.default_rng([seed, number]) for number, speaker in enumerate(order)}
    waiting = {
        speaker: _utterances(members(speech, speaker), length, rng, again=again) for speaker, rng in draws.items()
    }
    turns = deque(order)
    with new_folder(folder) as work:
        while turns and len(rows) < count:
            speaker = turns.popleft()
            waveform, paths = _join(waiting[speaker], length, draws[speaker])
            if not paths:
                continue
            turns.append(speaker)
            file = f"{speaker}/{given[speaker]:02d}.flac"
            given[speaker] += 1
            sha256 = write_hashed(work / file, waveform, SAMPLE_RATE)
            names = "|".join(map(str, paths))
            rows.append(Signal(file, speaker, waveform.size / SAMPLE_RATE, names, seed, sha256))
            if progress is not None:
                progress(len(rows), count)
        if not rows:
            raise DataError(
                f"found no utterance of {_MIN_SECONDS:g} s or more of {', '.join(speech.groups)}, expected speech "
                "for clean or test signals: add longer recordings"
            )
        write_table(work / TABLE, rows)
    return rows


def _utterances(
    recordings: Sequence[Recording], length: int, rng: np.random.Generator, *, again: bool
) -> Iterator[_Utterance]:
    """Utterances of one speaker in a drawn order; recordings longer than `length` come in stretches of that length."""
    stretches = []
    for recording in recordings:
        frames = math.ceil(length * recording.sample_rate / SAMPLE_RATE)
        stretches += [(recording, start, frames) for start in range(0, recording.frames, frames)]
    found = True
    while found:
        found = False
        for index in rng.permutation(len(stretches)):
            recording, start, frames = stretches[index]
            waveform = read_mono(recording, SAMPLE_RATE, start=start, frames=frames)
            level_db = levels.active_speech_db(waveform, SAMPLE_RATE)
            if waveform.size < _MIN_SECONDS * SAMPLE_RATE or level_db < recording.level_db + _PAUSE_DB:
                continue
            found = again
            gain = levels.from_db(_LEVEL_DB - level_db)
            yield _Utterance(recording.path, (gain * _spoken(waveform, level_db)).astype(np.float32))


def _spoken(waveform: NDArray[np.float32], level_db: float) -> NDArray[np.float32]:
    """Cut off what is before the first sound of speech and behind the last."""
    frame, margin = round(_FRAME_SECONDS * SAMPLE_RATE), round(_ONSET_MARGIN_SECONDS * SAMPLE_RATE)
    frame_db = levels.to_db(np.sqrt(levels.frame_power(waveform, frame)))
    active = np.flatnonzero(frame_db > level_db + _ONSET_DB)
    return waveform[max(0, active[0] * frame - margin) : (active[-1] + 1) * frame + margin]


def _join(
    utterances: Iterator[_Utterance], length: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], list[Path]]:
    """Join the next utterances with short pauses up to a length; none are left behind those that were taken."""
    parts: list[NDArray[np.float32]] = []
    paths: list[Path] = []
    missing = length
    while missing > 0 and (utterance := next(utterances, None)) is not None:
        pause = np.zeros(round(rng.uniform(*_PAUSE_RANGE_SECONDS) * SAMPLE_RATE), np.float32)
        parts += [utterance.waveform, pause]
        paths.append(utterance.path)
        missing -= utterance.waveform.size + pause.size
    joined = np.concatenate([np.zeros(0, np.float32), *parts])[:length]
    return (levels.peak_gain([joined]) * joined).astype(np.float32), paths
