"""Start-up time and processor time of the installed `sottovoce` command, beside the physical floor and its peers."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from _measure import (
    ONE_THREAD,
    PEERS,
    finish,
    median,
    one_core,
    options,
    peer,
    peers,
    run,
    sottovoce,
    table,
    verdict,
    write_recording,
)

from sottovoce import load

START_LIMIT_SECONDS = 0.6
COST_LIMIT = 0.05
SHORT_SECONDS = 10

# A product of two matrices, both too large for the first caches: what one core of this machine can do at best.
PRODUCT = """
import time
import numpy as np
n = 1024
a, b = np.random.default_rng(0).standard_normal((2, n, n), dtype=np.float32)
a @ b
times = []
for _ in range(20):
    start = time.perf_counter()
    a @ b
    times.append(time.perf_counter() - start)
print(n**3 / min(times))
"""


def multiply_adds_per_second() -> float:
    """Measure the float32 matrix product of one core, in a process of its own."""
    # Some systems force a kernel of OpenBLAS; the floor is what the processor can do.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OPENBLAS_")} | ONE_THREAD
    with one_core():
        return float(subprocess.check_output([sys.executable, "-c", PRODUCT], env=environment))


def loaded_modules(command: list[str | Path]) -> set[str]:
    """Return the top-level modules that a run of the command imports."""
    process = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "sottovoce", *map(str, command[1:])],
        check=True,
        capture_output=True,
        text=True,
    )
    lines = (line for line in process.stderr.splitlines() if line.startswith("import time:"))
    return {line.rpartition("|")[2].strip().split(".")[0] for line in lines}


def main() -> None:
    """Measure, print and write benchmarks/results/speed.md."""
    arguments = options(__doc__, "--minutes", 5, "length of the recording for the processor time")
    seconds = arguments.minutes * 60
    metadata = load(arguments.model).model.metadata
    needed = metadata.multiply_adds_per_second
    able = multiply_adds_per_second()
    floor = needed / able

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        short = write_recording(folder / "short.flac", SHORT_SECONDS)
        long = write_recording(folder / "long.flac", seconds)
        commands = {"sottovoce": lambda recording: sottovoce(recording, folder / "out", arguments.model)}
        for peer_name, installed in peers().items():
            if installed:
                commands[peer_name] = lambda recording, peer_name=peer_name: peer(peer_name, recording, folder)

        start, cost = {}, {}
        for system, command in commands.items():
            run(command(short))  # the first run reads the disk
            start[system] = median([run(command(short)) for _ in range(7)], "wall_seconds")
            cost[system] = median([run(command(long), one_thread=True) for _ in range(3)], "cpu_seconds") / seconds
        torch = "torch" in loaded_modules(commands["sottovoce"](short))

    ours = cost["sottovoce"]
    rows = [
        [system, f"{start[system]:.2f}", f"{cost[system]:.4f}", f"{cost[system] / ours:.1f}"] for system in commands
    ]
    rows += [[system, "not installed", "", ""] for system in PEERS if system not in commands]
    finish(
        "speed",
        "Speed",
        [
            f"**Floor.** The network needs {needed / 1e6:.1f} million multiply-adds per second of audio (model "
            f"`{metadata.name}`, {metadata.parameters / 1e3:.0f} thousand parameters); one core of this machine does "
            f"{able / 1e9:.1f} thousand million per second in a float32 matrix product of numpy, measured in this run. "
            f"So no program runs this network on this core for less than **{floor:.5f} CPU s per audio s**; "
            "transforms, reading and writing come on top.",
            f"**Cost, one thread.** {ours:.4f} CPU s per audio s on {arguments.minutes:g} minutes, start of the "
            f"process included (limit {COST_LIMIT}: {verdict(ours, COST_LIMIT)}); {ours / floor:.1f} times the floor.",
            f"**Fresh process to finished file**, {SHORT_SECONDS} s of audio: {start['sottovoce']:.2f} s, median of 7 "
            f"(limit {START_LIMIT_SECONDS} s: {verdict(start['sottovoce'], START_LIMIT_SECONDS)}). torch is "
            f"{'LOADED' if torch else 'not loaded'}.",
            table(["system", "fresh process to file (s)", "CPU s per audio s", "times ours"], rows),
        ],
    )


if __name__ == "__main__":
    main()
