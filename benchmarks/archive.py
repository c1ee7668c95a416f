"""A manifest of very many recordings: memory and time to make it, and to read what a run reads first."""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from _measure import finish, run, verdict

from sottovoce.archive.manifest import Item, Manifest, write_manifest
from sottovoce.signal.audio import walk_audio

PEAK_LIMIT_MIB = 512


def synthetic_items(count: int) -> Iterator[Item]:
    """Make items as `archive make` does, of recordings that do not exist."""
    for number in range(count):
        name = f"speaker{number % 1000:04}/session{number // 1000:05}/{number:09}.wav"
        yield Item(name, f"file:///data/archive/{name}", 1_920_044, 60.0, f"{number:064x}")


def make(folder: Path, count: int) -> None:
    """Write the manifest, in a process of its own."""
    write_manifest(synthetic_items(count), folder)


def split(folder: Path) -> None:
    """Open the manifest, and read the first part of the last of 16 shards, as a run does."""
    manifest = Manifest.open(folder)
    part = manifest.parts[15::16][0]
    assert len(manifest.read(part)) == part.items


def read(folder: Path) -> None:
    """Read all parts one after the other."""
    manifest = Manifest.open(folder)
    assert sum(len(manifest.read(part)) for part in manifest.parts) == manifest.items


def walk(folder: Path) -> None:
    """Find the recordings of one flat folder."""
    assert sum(1 for _ in walk_audio(folder)) > 0


STEPS = {"make": make, "split": split, "read": read, "walk": walk}


def main() -> None:
    """Measure, print and write benchmarks/results/archive.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000, help="recordings of the manifest")
    parser.add_argument("--files", type=int, default=250_000, help="empty files of one folder that is walked")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step == "make":
        return make(arguments.folder, arguments.items)
    if arguments.step is not None:
        return STEPS[arguments.step](arguments.folder)

    with tempfile.TemporaryDirectory() as name:
        manifest, flat = Path(name) / "manifest", Path(name) / "flat"
        flat.mkdir()
        for number in range(arguments.files):
            (flat / f"{number * 7919 % arguments.files:09}.wav").touch()
        program = [sys.executable, Path(__file__)]
        costs = {
            step: run([*program, "--step", step, "--folder", manifest, "--items", str(arguments.items)])
            for step in ("make", "split", "read")
        }
        costs["walk"] = run([*program, "--step", "walk", "--folder", flat])
        size = sum(path.stat().st_size for path in manifest.iterdir())
    peak = max(cost.peak_mib for cost in costs.values())
    lines = {
        "make": f"{arguments.items:,} items written in parts of 1,000 ({size / 2**20:.0f} MiB in all)",
        "split": "index opened, and the first part of the last of 16 shards read",
        "read": "all parts read, one after the other",
        "walk": f"{arguments.files:,} files of one folder found in order",
    }
    rows = "\n".join(
        f"| {text} | {costs[step].wall_seconds:.1f} | {costs[step].cpu_seconds:.1f} | {costs[step].peak_mib:.0f} |"
        for step, text in lines.items()
    )
    finish(
        "archive",
        "Archives",
        [
            "**A manifest of synthetic items**: how long it takes to look at recordings and to hash them depends "
            "on the disk, and is left out. Each row is a fresh process, Python and its imports included.",
            f"| | seconds | CPU seconds | peak (MiB) |\n|---|---|---|---|\n{rows}",
            f"Limit {PEAK_LIMIT_MIB} MiB: {verdict(peak, PEAK_LIMIT_MIB)}.",
        ],
    )
    return None


if __name__ == "__main__":
    main()
