"""Recordings with references, enhanced and scored once: what `quality.py`, `ablations.py` and `adaptation.py` share."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

import sottovoce
from sottovoce.atomic import replacing
from sottovoce.data.corpora.folders import read_table
from sottovoce.data.simulation.mixtures import TABLE, Mixture
from sottovoce.metrics.report import read_score_csv, score_csv
from sottovoce.metrics.scores import MEASURES, FileScores, Job, Scores, score_jobs

DATA = Path(os.environ.get("SOTTOVOCE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
DEVELOPMENT = ("dry", "rooms", "poster")
PAIRS = "pairs"
UNPROCESSED, DEFAULT = "unprocessed", "sottovoce"
_COLUMNS = ("set", "system", "file")

Enhance = Callable[[np.ndarray, int], np.ndarray]


@dataclass(frozen=True)
class Item:
    """A recording with its reference.

    Attributes:
        file: Name.
        noisy: Mixture.
        clean: Reference.
        groups: What it belongs to: speaker, SNR, noise, room.
        noise: File of its noise below `SOTTOVOCE_DATA`; empty where that is not known.
    """

    file: str
    noisy: Path
    clean: Path
    groups: Mapping[str, str] = field(default_factory=dict)
    noise: str = ""


@dataclass(frozen=True)
class System:
    """Something that enhances.

    Attributes:
        enhance: Samples and rate to samples.
        key: Changes when the system does; empty for one that does not change.
    """

    enhance: Enhance
    key: str = ""


def unprocessed() -> System:
    """The recordings as they are."""
    return System(lambda waveform, _: waveform)


def model(path: Path) -> System:
    """An exported model; what it gives also depends on the engine that runs it."""
    digest = hashlib.sha256(path.read_bytes())
    package = Path(sottovoce.__file__).parent
    for source in sorted([*package.glob("engine/*.py"), *package.glob("signal/*.py")]):
        digest.update(source.read_bytes())
    return System(sottovoce.load(path).enhance, digest.hexdigest()[:8])


def read_items(folder: Path) -> list[Item]:
    """The mixtures of a folder that `make_mixtures` made."""
    return [
        Item(
            Path(row.file).stem,
            folder / "noisy" / row.file,
            folder / "clean" / row.file,
            {
                "speaker": row.speaker,
                "SNR": f"{row.snr_db:g} dB",
                "noise": Path(row.noise).parent.name,
                "room": Path(row.room).parent.name if row.room else "none",
            },
            row.noise,
        )
        for row in read_table(folder / TABLE, Mixture)
    ]


def find_sets(data: Path) -> dict[str, list[Item]]:
    """The sets that are there."""
    sets = {}
    for name in DEVELOPMENT:
        folder = data / "development" / name
        if (folder / TABLE).exists():
            sets[name] = read_items(folder)
    folder = DATA / "pairs" / "dns_synth_train_example_dataset"
    if folder.is_dir():
        sets[PAIRS] = [
            Item(noisy.stem, noisy, folder / "clean" / noisy.name)
            for noisy in sorted((folder / "noisy").glob("*.flac"))
        ]
    return sets


def enhanced_folder(items: Sequence[Item], name: str, system: System, work: Path) -> Path:
    """Where a system's output on these very recordings lies."""
    digest = hashlib.sha256(system.key.encode())
    for item in items:
        digest.update(item.noisy.read_bytes() + item.clean.read_bytes())
    return work / f"{name}-{digest.hexdigest()[:12]}"


def scored(
    items: Sequence[Item], name: str, system: System, work: Path, jobs: int, *, measures: Sequence[str] = MEASURES
) -> list[FileScores]:
    """Scores of one system on one set, from the cache where they are there.

    Raises:
        SystemExit: A recording cannot be scored: means would be over other files than those of other systems.
    """
    folder = enhanced_folder(items, name, system, work)
    table = folder / "scores.csv"
    if not table.exists():
        folder.mkdir(parents=True, exist_ok=True)
        for item in items:
            waveform, rate = soundfile.read(item.noisy, dtype="float32")
            soundfile.write(folder / f"{item.file}.flac", np.clip(system.enhance(waveform, rate), -1.0, 1.0), rate)
        found, problems = score_jobs(
            [Job(item.file, name, item.clean, folder / f"{item.file}.flac") for item in items],
            workers=jobs,
            measures=measures,
        )
        if problems:
            raise SystemExit("\n".join(problems))
        write_scores(table, {"": found})
    return read_score_table(table)[""]


def write_scores(path: Path, scores: Mapping[str, Sequence[FileScores]]) -> None:
    """All scores, one line per set, system and file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = (
        ([name, result.system, result.file], result.scores) for name, results in scores.items() for result in results
    )
    with replacing(path) as temporary:
        temporary.write_text(score_csv(_COLUMNS, rows), encoding="utf-8")


def read_score_table(path: Path) -> dict[str, list[FileScores]]:
    """What `write_scores` wrote."""

    def line(whose: Sequence[str], found: Scores) -> tuple[str, FileScores]:
        name, system, file = whose
        return name, FileScores(file, system, found)

    scores: dict[str, list[FileScores]] = {}
    for name, result in read_score_csv(path.read_text(encoding="utf-8"), _COLUMNS, line):
        scores.setdefault(name, []).append(result)
    return scores
