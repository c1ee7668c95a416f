"""Memory and time of a training that draws from manifests of very many recordings."""

import argparse
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from _measure import finish, run, table

from sottovoce.archive.manifest import Item, Manifest, write_manifest
from sottovoce.config import TrainingSettings, find_settings, load_settings
from sottovoce.data.sampling import StreamedClips
from sottovoce.signal.audio import find_audio
from sottovoce.training.streaming import open_stream

EXAMPLES = Path(__file__).parents[1] / "examples" / "unpaired"


def many(kind: str, count: int) -> Iterator[Item]:
    """Items of a thousand speakers, whose recordings are the bundled ones, again and again."""
    uris = itertools.cycle([path.as_uri() for path in find_audio(EXAMPLES / kind)])
    for number in range(count):
        yield Item(f"speaker{number * 1000 // count:04}/{number:09}.ogg", next(uris), 100_000, 10.0)


def draw(folder: Path, batches: int) -> None:
    """Prepare a training as the command does, and draw batches in one process; say how long each took."""
    settings = load_settings(find_settings("default"))
    training: TrainingSettings = settings.training
    start = time.process_time()
    streams = [
        open_stream(kind, Manifest.open(folder / kind), folder / "run", training).stream
        for kind in ("speech", "mixtures")
    ]
    prepared = time.process_time()
    clips = StreamedClips(
        *streams, rooms=(), settings=training.data, sample_rate=settings.frontend.sample_rate, seed=training.seed
    )
    for number in range(batches):
        clips.batch(number, "joint")
    drawn = time.process_time()
    (folder / f"seconds-{batches}").write_text(f"{prepared - start} {drawn - prepared}")


def main() -> None:
    """Measure, print and write benchmarks/results/training_data.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, nargs="+", default=(1_000, 1_000_000), help="recordings of each manifest")
    parser.add_argument("--batches", type=int, default=24)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.folder is not None:
        return draw(arguments.folder, arguments.batches)
    rows = []
    for count in arguments.items:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for kind in ("speech", "mixtures"):
                write_manifest(many(kind, count), folder / kind)
            cost = run(
                [sys.executable, Path(__file__), "--folder", folder, "--batches", str(arguments.batches)],
                one_thread=True,
            )
            prepared, drawn = map(float, (folder / f"seconds-{arguments.batches}").read_text().split())
        rows.append([f"2 x {count:,}", f"{prepared:.1f}", f"{drawn / arguments.batches:.2f}", f"{cost.peak_mib:.0f}"])
    settings = load_settings(find_settings("default")).training.data.stream
    finish(
        "training_data",
        "Training data from manifests",
        [
            f"Two manifests, of clean speech and of noisy recordings, whose recordings are the bundled ones again and "
            f"again, by a thousand speakers. One process with one thread prepares a training with the settings "
            f"`default`, but for the rooms, and draws {arguments.batches} batches of the joint stage, so that all "
            f"{settings.readers} readers have their {settings.recordings} recordings of either kind in memory.",
            table(["recordings", "prepared (CPU s)", "a batch (CPU s)", "peak (MiB)"], rows),
        ],
    )
    return None


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
