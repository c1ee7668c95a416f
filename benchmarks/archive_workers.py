"""An archive by one and two processes, of this machine and of a Ray cluster on it: what the second one is worth."""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from _measure import ONE_THREAD, finish, run, table, verdict, write_recording

from sottovoce.archive.listing import make_manifest

LEAST_SPEEDUP, MOST_OVERHEAD = 1.8, 0.05
RECORDING_SECONDS = 150.0
WAYS = {
    "processes, 1": ["--jobs", "1"],
    "processes, 2": ["--jobs", "2"],
    "Ray, 1": ["--jobs", "1", "--address", "local"],
    "Ray, 2": ["--jobs", "2", "--address", "local"],
}


def main() -> None:
    """Measure, print and write benchmarks/results/archive_workers.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4800.0, help="length of all recordings (default: 4800)")
    parser.add_argument("--rounds", type=int, default=1, help="how often all is measured; the fastest counts")
    arguments = parser.parse_args()
    os.environ |= ONE_THREAD

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        long, short = folder / "long", folder / "short"
        long.mkdir()
        short.mkdir()
        first = write_recording(long / "0000.flac", RECORDING_SECONDS)
        count = round(arguments.seconds / RECORDING_SECONDS)
        for number in range(1, count):
            shutil.copy(first, long / f"{number:04}.flac")
        for number in range(2):
            write_recording(short / f"{number}.flac", 1.0)
        manifests = {path: make_manifest([path], folder / f"{path.name}.manifest") for path in (long, short)}
        seconds: dict[str, dict[Path, float]] = {way: {} for way in WAYS}
        for _ in range(arguments.rounds):
            for way, words in WAYS.items():
                for path, manifest in manifests.items():
                    output = folder / "out"
                    command = [sys.executable, "-m", "sottovoce", "archive", "enhance", manifest.store.address()]
                    spent = run([*command, "-o", output, *words]).wall_seconds
                    seconds[way][path] = min(spent, seconds[way].get(path, spent))
                    shutil.rmtree(output)
        sound = manifests[long].seconds

    work = {way: spent[long] - spent[short] for way, spent in seconds.items()}
    rows = [
        [way, f"{seconds[way][short]:.1f}", f"{seconds[way][long]:.1f}", f"{work[way]:.1f}", f"{sound / work[way]:.0f}"]
        for way in WAYS
    ]
    speedups = {kind: work[f"{kind}, 1"] / work[f"{kind}, 2"] for kind in ("processes", "Ray")}
    overheads = [work[f"Ray, {jobs}"] / work[f"processes, {jobs}"] - 1 for jobs in (1, 2)]
    finish(
        "archive_workers",
        "Archives: workers",
        [
            f"`sottovoce archive enhance` of {count} recordings of {RECORDING_SECONDS:g} s each, default model, a "
            f"fresh process each time, fastest of {arguments.rounds}. The start is the same command for two recordings "
            "of a second: of Ray, it begins a cluster and ends it.",
            table(["workers", "start (s)", "whole (s)", "work (s): whole - start", "times real time"], rows),
            f"Two workers against one: {speedups['processes']:.2f} times as fast with processes, {speedups['Ray']:.2f} "
            f"with Ray (at least {LEAST_SPEEDUP}: {'kept' if speedups['Ray'] >= LEAST_SPEEDUP else 'MISSED'}).",
            f"Ray takes {100 * overheads[0]:+.1f} % with one worker and {100 * overheads[1]:+.1f} % with two, start "
            f"left out (less than {100 * MOST_OVERHEAD:g} %: {verdict(max(overheads), MOST_OVERHEAD)}).",
        ],
    )


if __name__ == "__main__":
    main()
