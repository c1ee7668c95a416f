"""Ten thousand short recordings through `sottovoce archive`: in one calm run, and in one that is killed ten times."""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import soundfile
from _measure import ONE_THREAD, SAMPLE_RATE, Cost, finish, run, table
from _scoring import DATA

from sottovoce.signal.audio import walk_audio

SECONDS = (0.5, 2.5)
FILES_IN_A_FOLDER = 100
SEED = 1


def cut(folder: Path, count: int) -> float:
    """Cut recordings of `SOTTOVOCE_DATA` into short ones; give their length in all."""
    draws = random.Random(SEED)
    sources = [path for path in sorted(walk_audio(DATA)) if path.suffix in (".flac", ".wav", ".ogg")]
    draws.shuffle(sources)
    made, seconds = 0, 0.0
    while made < count:
        before = made
        for source in sources:
            with soundfile.SoundFile(source) as file:
                frames = round(draws.uniform(*SECONDS) * file.samplerate)
                if made == count or file.frames < frames or file.samplerate < SAMPLE_RATE:
                    continue
                file.seek(draws.randrange(file.frames - frames + 1))
                samples, rate = file.read(frames), file.samplerate
            path = folder / f"{made // FILES_IN_A_FOLDER:03}" / f"{made:05}.flac"
            path.parent.mkdir(exist_ok=True, parents=True)
            soundfile.write(path, samples, rate)
            made, seconds = made + 1, seconds + len(samples) / rate
        if made == before:
            sys.exit(f"found no recordings of {SECONDS[1]:g} s in SOTTOVOCE_DATA, expected some: name its folder")
    return seconds


def killed_run(command: list[str], output: Path, kills: int, seconds: float) -> list[int]:
    """Kill a run at random moments, each time with all its processes, and let the last one end.

    Returns:
        How many recordings were enhanced at each kill.
    """
    draws = random.Random(SEED)
    done = []
    for _ in range(kills):
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        time.sleep(draws.uniform(0.5, 1.5) * seconds / (kills + 1))
        if process.poll() is not None:
            sys.exit(f"found a run that had ended before kill {len(done) + 1}, expected more to do: give more files")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        done.append(sum(1 for _ in output.rglob("*.flac")))
    run(list(command))
    return done


def contents(output: Path) -> dict[str, str]:
    """Digests of all enhanced recordings by path."""
    return {
        path.relative_to(output).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(output.rglob("*.flac"))
    }


def lines(output: Path) -> Counter[str]:
    """How often each recording stands in the tables."""
    return Counter(
        json.loads(line)["id"]
        for path in output.rglob("results/*.jsonl")
        for line in path.read_text(encoding="utf-8").splitlines()
    )


def answer(holds: bool) -> str:
    """Say whether something holds, so that a reader who skims sees it."""
    return "yes" if holds else "NO"


def main() -> None:
    """Measure, print and write benchmarks/results/archive_files.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000, help="recordings (default: 10000)")
    parser.add_argument("--kills", type=int, default=10, help="kills (default: 10)")
    parser.add_argument("--jobs", default="2", help="processes (default: 2)")
    arguments = parser.parse_args()
    os.environ |= ONE_THREAD
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seconds = cut(folder / "recordings", arguments.files)
        archive = [sys.executable, "-m", "sottovoce", "archive"]
        manifest = str(folder / "manifest")
        costs: dict[str, Cost] = {"manifest": run([*archive, "make", folder / "recordings", "-o", manifest])}
        calm, broken = folder / "calm", folder / "broken"
        enhance = [*archive, "enhance", manifest, "--jobs", arguments.jobs, "-o"]
        costs["enhanced"] = run([*enhance, calm])
        expected, rows = contents(calm), lines(calm)
        size = sum(path.stat().st_size for path in calm.rglob("*.flac"))
        shutil.rmtree(calm)
        done = killed_run([*enhance, str(broken)], broken, arguments.kills, costs["enhanced"].wall_seconds)
        found, rows_after = contents(broken), lines(broken)
        left = [path for path in broken.rglob("*") if path.is_file() and path.name.startswith(".sottovoce")]

    def each(cost: Cost) -> float:
        return cost.wall_seconds / arguments.files

    equal = found == expected and len(expected) == arguments.files
    once = set(rows.values()) == set(rows_after.values()) == {1} and len(rows_after) == arguments.files
    enhanced = costs["enhanced"]
    finish(
        "archive_files",
        "Archives: many short recordings",
        [
            f"{arguments.files:,} pieces of {SECONDS[0]:g} to {SECONDS[1]:g} s of real speech, noise and mixtures, "
            f"{seconds / 3600:.1f} hours in all; `sottovoce archive make` and then `enhance` by {arguments.jobs} "
            "processes, default model.",
            table(
                ["", "seconds", "CPU seconds", "ms a recording"],
                [
                    [what, f"{cost.wall_seconds:.0f}", f"{cost.cpu_seconds:.0f}", f"{1000 * each(cost):.1f}"]
                    for what, cost in (("listed and hashed", costs["manifest"]), ("enhanced", enhanced))
                ],
            ),
            f"{seconds / enhanced.wall_seconds:.0f} times real time; {size / 2**20:.0f} MiB written.",
            f"**Killed**: the same run, killed with all its processes (`kill -9`) at {arguments.kills} random moments, "
            f"behind {', '.join(f'{count:,}' for count in done)} recordings, and started again each time. Every "
            f"recording was enhanced to the same bytes as in the calm run: {answer(equal)}. Each stands once in the "
            f"tables: {answer(once)}. Temporary files left: {len(left)}.",
        ],
    )
    if not (equal and once) or left:
        sys.exit(1)


if __name__ == "__main__":
    main()
