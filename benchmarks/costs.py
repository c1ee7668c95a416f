"""What archives and trainings cost: measured on this machine, and computed for 100,000 hours and 10,000,000 files.

    python benchmarks/costs.py
    python benchmarks/costs.py floor default-3600
    python benchmarks/costs.py --none --core-hour 0.03 --cores 64

What a part has measured is kept in benchmarks/results/costs.json. The page is put together of all of them, of the
results of speed.py, archive.py, archive_workers.py and training_data.py, and of the prices and machines that the
command line names.
"""

import argparse
import dataclasses
import json
import math
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from _measure import ONE_THREAD, RESULTS, ROOT, SAMPLE_RATE, Cost, finish, one_core, run, table, write_recording
from speed import BLOCK_SECONDS, LIVE_SECONDS, multiply_adds_per_second, split_cost

import sottovoce
from sottovoce.archive.listing import make_manifest
from sottovoce.config import changed, find_settings, load_settings
from sottovoce.metrics import plots
from sottovoce.objectives.joint import UnpairedTensors
from sottovoce.training.preparation import prepare, simulate_rooms
from sottovoce.training.run import training_clips, untrained
from sottovoce.training.stages import joint_stages
from sottovoce.weights import MODELS

KEPT = RESULTS / "costs.json"
LENGTHS_SECONDS = (10, 60, 600, 3600)
SHORT_SECONDS = 2
LEAST_SECONDS = 600
COUNTS = (10, 100, 1000)
STEPS = 2
ROOMS = 4
HOUR = 3600.0
GB = 1e9
JOBS = (("100,000 hours in files of one hour", 100_000, 3600.0), ("10,000,000 files of one minute", 10_000_000, 60.0))
SHARD_FILES = 1000


@dataclass(frozen=True)
class Inputs:
    """What is not measured here: machines, prices, a store. Change it on the command line."""

    cores: int = field(default=16, metadata={"what": "cores of a machine"})
    hours: float = field(default=24.0, metadata={"what": "hours in which all is to be done"})
    core_hour: float = field(default=0.04, metadata={"what": "price of a core for an hour, in dollars"})
    gpu_hour: float = field(default=3.0, metadata={"what": "price of a GPU for an hour, in dollars"})
    gb_month: float = field(default=0.023, metadata={"what": "price of a GB (10^9 bytes) for a month, in dollars"})
    thousand_puts: float = field(default=0.005, metadata={"what": "price of 1,000 writes to a store, in dollars"})
    thousand_gets: float = field(default=0.0004, metadata={"what": "price of 1,000 reads from a store, in dollars"})
    gigabits: float = field(default=10.0, metadata={"what": "network of a machine, in Gbit/s"})
    store_ms: float = field(default=100.0, metadata={"what": "wait of a file for a store, read and write, in ms"})
    gpu_step_ms: float = field(
        default=60.0, metadata={"what": "a step of `default` on a GPU, in ms: see docs/train-on-your-recordings.md"}
    )


def measure_floor() -> dict[str, Any]:
    """What decoding, encoding, arithmetic and the disk take for an hour of sound, without anything else."""
    found: dict[str, Any] = {}
    minutes = 10
    with tempfile.TemporaryDirectory() as name:
        path = write_recording(Path(name) / "a.flac", 60.0 * minutes)
        hours = minutes / 60
        found["flac_bytes"] = path.stat().st_size / hours
        found["wav_bytes"] = 2 * SAMPLE_RATE * HOUR
        found["decode"] = least_of_three(lambda: soundfile.read(path, dtype="float32")) / hours
        sound, rate = soundfile.read(path, dtype="float32")
        copy = Path(name) / "b.flac"
        found["encode"] = least_of_three(lambda: soundfile.write(copy, sound, rate, subtype="PCM_16")) / hours
        content = path.read_bytes()
        start = time.perf_counter()
        with copy.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        found["disk_bytes_per_second"] = len(content) / (time.perf_counter() - start)
        speech, _ = soundfile.read(write_recording(Path(name) / "c.flac", LIVE_SECONDS), dtype="float32")
    able = multiply_adds_per_second()
    for model in MODELS:
        enhancer = sottovoce.load(model)
        with one_core():
            transforms, network = split_cost(enhancer, speech)
        needed = enhancer.model.metadata.multiply_adds_per_second
        found[model] = {
            "parameters": enhancer.model.metadata.parameters,
            "multiply_adds_per_second": needed,
            "arithmetic": HOUR * needed / able,
            "network": HOUR * network,
            "transforms": HOUR * transforms,
        }
    return found


def slowdown() -> float:
    """How much longer the bundled model takes for a block than speed.py has found on a calm machine."""
    enhancer = sottovoce.load("default")
    with tempfile.TemporaryDirectory() as name:
        speech, _ = soundfile.read(write_recording(Path(name) / "a.flac", LIVE_SECONDS), dtype="float32")
    stft, model = enhancer.stft, enhancer.model
    spectra = np.ascontiguousarray(stft.spectra(stft.frames(speech[np.newaxis, : BLOCK_SECONDS * SAMPLE_RATE])))
    past, times = model.initial_past(1), []
    for _ in range(30):
        start = time.process_time()
        model.run(spectra, past)
        times.append(time.process_time() - start)
    (calm,) = number_in("speed", r"\*\*Transforms and network\*\*, in blocks of 4 s: [\d.]+ and ([\d.]+) CPU s")
    return float(np.mean(times)) / BLOCK_SECONDS / calm


def least_of_three(work: Callable[[], object]) -> float:
    """Processor time of a piece of work."""
    times = []
    for _ in range(3):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def archived(folder: Path, recordings: Path, model: str) -> Cost:
    """Cost of `sottovoce archive enhance` with one process, from a manifest that is there."""
    manifest, output = folder / f"{recordings.name}.manifest", folder / "out"
    if not manifest.exists():
        make_manifest([recordings], manifest)
    command = [sys.executable, "-m", "sottovoce", "archive", "enhance", manifest, "-o", output]
    cost = run([*command, "--jobs", "1", "--model", model])
    done = sum(1 for path in output.rglob("*.flac"))
    expected = sum(1 for path in recordings.iterdir())
    if done != expected:
        sys.exit(f"found {done} enhanced recordings, expected {expected}")
    shutil.rmtree(output)
    return cost


def copies(folder: Path, seconds: float, count: int) -> Path:
    """A folder of equal recordings: what they hold does not matter to the cost."""
    folder.mkdir()
    first = write_recording(folder / "000000.flac", seconds)
    for number in range(1, count):
        shutil.copy(first, folder / f"{number:06}.flac")
    return folder


def measure_length(model: str, length: int) -> dict[str, float]:
    """Files of one length by one model, and how long the start takes."""
    count = max(1, LEAST_SECONDS // length)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start = archived(folder, copies(folder / "tiny", 1.0, 1), model).cpu_seconds
        whole = archived(folder, copies(folder / "files", length, count), model).cpu_seconds
    print(f"{model}, {count} files of {length} s: {start:.1f} CPU s to start, {whole - start:.1f} to work", flush=True)
    return {"files": count, "start": start, "cpu": whole - start}


def measure_files(count: int) -> dict[str, float]:
    """So many short recordings, each another piece of the bundled ones."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sound, rate = soundfile.read(write_recording(folder / "source.flac", 600.0), dtype="float32")
        length = SHORT_SECONDS * rate
        recordings = folder / "short"
        recordings.mkdir()
        for number in range(count):
            first = number * 7919 % (len(sound) - length)
            soundfile.write(recordings / f"{number:06}.flac", sound[first : first + length], rate)
        cost = archived(folder, recordings, "default")
    print(f"{count} files: {cost.cpu_seconds:.1f} CPU s", flush=True)
    return {"cpu": cost.cpu_seconds}


def measure_training(model: str) -> dict[str, Any]:
    """Preparing the bundled recordings, and steps of both stages on one thread."""
    torch.set_num_threads(1)
    few_rooms = {"training": {"data": {"simulation": {"room": {"count": ROOMS}}}}}  # as many take as long in a step
    settings = changed(load_settings(find_settings(model)), few_rooms, "the benchmark")
    unpaired = ROOT / "examples" / "unpaired"
    with tempfile.TemporaryDirectory() as name:
        start = time.process_time()
        data = prepare(unpaired / "speech", unpaired / "mixtures", Path(name), settings, with_rooms=False)
        preparing = time.process_time() - start
    parts = (data.speech, data.mixtures, data.held_back_speech, data.held_back_mixtures)
    hours = sum(part.seconds for part in parts) / HOUR
    data = dataclasses.replace(data, rooms=simulate_rooms(settings))
    network, clips, drawn = untrained(settings), training_clips(data, settings), settings.training.data
    found: dict[str, Any] = {"preparing": preparing / hours, "clip_seconds": drawn.clip_seconds}
    for stage in joint_stages(network, settings):
        # As in the training: other networks are frozen.
        trained = {parameter for part in stage.trained for parameter in part.parameters()}
        for parameter in network.parameters():
            parameter.requires_grad_(parameter in trained)
        optimiser = torch.optim.Adam(trained, lr=1e-6)
        drawing, learning = [], []
        for step in range(1 + STEPS):
            times = [time.process_time()]
            batch = UnpairedTensors(*map(torch.from_numpy, clips.batch(step, stage.purpose)))
            times.append(time.process_time())
            optimiser.zero_grad()
            stage.loss(stage.terms(batch, torch.Generator().manual_seed(step))).backward()
            optimiser.step()
            times.append(time.process_time())
            if step:  # the first one loads things
                drawing.append(times[1] - times[0])
                learning.append(times[2] - times[1])
        of_joint = drawn.mixture_clips + drawn.noise_clips + drawn.simulated_clips
        found[stage.name] = {
            "steps": stage.steps,
            "clips": drawn.speech_clips if stage.purpose == "speech" else of_joint,
            "drawing": float(np.median(drawing)),
            "learning": float(np.median(learning)),
        }
        print(f"{model}, {stage.name}: {found[stage.name]}", flush=True)
    return found


def part_name(model: str, length: int) -> str:
    """Name of the part that measures a model on files of a length."""
    return f"{model}-{length}"


PARTS = {
    "floor": measure_floor,
    **{
        part_name(model, length): partial(measure_length, model, length)
        for model in MODELS
        for length in LENGTHS_SECONDS
    },
    **{f"files-{count}": partial(measure_files, count) for count in COUNTS},
    **{f"training-{model}": partial(measure_training, model) for model in MODELS},
}


def number_in(name: str, pattern: str) -> tuple[float, ...]:
    """Numbers that another benchmark has written."""
    match = re.search(pattern, (RESULTS / f"{name}.md").read_text(encoding="utf-8"))
    if match is None:
        sys.exit(f"found nothing like {pattern!r} in {name}.md, expected what benchmarks/{name}.py writes: repeat that")
    return tuple(float(group.replace(",", "")) for group in match.groups())


def per_file_and_hour(kept: dict[str, Any], model: str) -> tuple[float, float]:
    """CPU seconds of a file, whatever its length, and of an hour of sound: least squares of relative errors."""
    files = np.array([kept[part_name(model, length)]["files"] for length in LENGTHS_SECONDS])
    hours = files * np.array(LENGTHS_SECONDS) / HOUR
    costs = hours * np.array([hour_in_files_of(kept, model, length) for length in LENGTHS_SECONDS])
    rows = np.stack([files, hours], axis=1) / costs[:, None]
    (file, hour), *_ = np.linalg.lstsq(rows, np.ones(len(costs)), rcond=None)
    return float(file), float(hour)


def start_of(kept: dict[str, Any]) -> float:
    """CPU seconds before the first recording."""
    parts = [kept[part_name("default", length)] for length in LENGTHS_SECONDS]
    return float(np.median([part["start"] / part["slowdown"] for part in parts]))


def file_cost(kept: dict[str, Any], count: int) -> float:
    """CPU seconds of one of so many short files."""
    found = kept[f"files-{count}"]
    return float((found["cpu"] / found["slowdown"] - start_of(kept)) / count)


def hour_in_files_of(kept: dict[str, Any], model: str, length: int) -> float:
    """CPU seconds that an hour of sound took in files of a length."""
    found = kept[part_name(model, length)]
    return float(found["cpu"] / found["slowdown"] / found["files"] / length * HOUR)


def estimate(files: int, seconds: float, costs: tuple[float, float], kept: dict[str, Any], inputs: Inputs) -> list[str]:
    """One column of the table of an archive: what so many files take."""
    per_file, per_hour = costs
    efficiency = two_workers() / 2
    hours = files * seconds / HOUR
    computing = (files * per_file + hours * per_hour) / HOUR
    occupied = computing / efficiency
    waiting = files * inputs.store_ms / 1000 / HOUR
    machines = math.ceil(occupied / (inputs.cores * inputs.hours))
    with_wait = math.ceil((occupied + waiting) / (inputs.cores * inputs.hours))
    stored = hours * kept["floor"]["flac_bytes"]
    per_second = 2 * stored / (inputs.hours * HOUR) / machines
    share = 8 * per_second / (inputs.gigabits * GB)
    requests = files * (inputs.thousand_puts + inputs.thousand_gets) / 1000
    packed = requests / SHARD_FILES
    manifest_mib, manifest_seconds = number_in(
        "archive", r"items written in parts of 1,000 \(([\d,]+) MiB in all\) \| ([\d.]+)"
    )
    millions = files / 1e6
    bottleneck = max(
        ("arithmetic and decoding", hours * per_hour / HOUR),
        ("what every file takes, whatever its length", files * per_file / HOUR),
        ("the wait for the store", waiting),
        ("the network", share * inputs.cores * inputs.hours * machines),
        key=lambda pair: pair[1],
    )[0]
    prices = {
        "cores": occupied * inputs.core_hour,
        "waiting": waiting * inputs.core_hour,
        "requests": requests,
        "storage": 2 * stored / GB * inputs.gb_month,
    }
    return [
        f"{hours:,.0f}",
        f"{computing:,.0f}",
        f"{occupied:,.0f}",
        f"{waiting:,.0f}",
        f"{machines:,} ({with_wait:,})",
        f"{stored / 1e12:.1f} + {stored / 1e12:.1f}",
        f"{per_second / 1e6:.1f} MB/s, {share:.1%}",
        f"{manifest_mib * millions / 1024:.2f} GiB, {manifest_seconds * millions / 60:.0f} min",
        f"${prices['cores']:,.0f}",
        f"${prices['waiting']:,.0f}",
        f"${prices['requests']:,.2f} (${packed:,.3f})",
        f"${prices['storage']:,.0f}",
        bottleneck,
        max(prices, key=lambda name: prices[name]),
    ]


ESTIMATED = (
    "hours of sound",
    "core hours of computing",
    "core hours with all cores busy",
    "core hours of waiting for a store, one file at a time",
    "machines (with one process a core, which waits)",
    "TB read + written (FLAC)",
    "traffic of a machine, share of its network",
    "manifest, time to write it",
    "price of the cores",
    "price of the wait",
    f"price of requests (in shards of {SHARD_FILES:,})",
    "price of both versions, a month",
    "most of the time goes to",
    "most of the money, in the first month, goes to",
)


def two_workers() -> float:
    """How many times as fast two workers are as one."""
    return number_in("archive_workers", r"Two workers against one: ([\d.]+) times as fast with processes")[0]


def floor_paragraphs(kept: dict[str, Any], inputs: Inputs) -> list[str]:
    """What no program can do without."""
    raw = kept["floor"]
    floor = raw | {name: raw[name] / raw["slowdown"] for name in ("decode", "encode")}
    for model in MODELS:
        floor[model] = {name: value / raw["slowdown"] for name, value in raw[model].items()}
    wire = 8 * floor["flac_bytes"] / (inputs.gigabits * GB)
    disk = floor["flac_bytes"] / floor["disk_bytes_per_second"]
    rows = [
        ["read and write", *[f"{wire * 2:.3f} on the network, {2 * disk:.2f} on this disk"] * len(MODELS)],
        ["decode FLAC", *[f"{floor['decode']:.2f}"] * len(MODELS)],
        ["encode FLAC", *[f"{floor['encode']:.2f}"] * len(MODELS)],
        [
            "arithmetic, at the speed of a matrix product",
            *(f"{floor[m]['arithmetic']:.2f}" for m in MODELS),
        ],
    ]
    sums = {m: floor["decode"] + floor["encode"] + floor[m]["arithmetic"] for m in MODELS}
    rows.append(["**floor**: the three together", *(f"**{sums[m]:.1f}**" for m in MODELS)])
    rows.append(["the network as it runs", *(f"{floor[m]['network']:.1f}" for m in MODELS)])
    rows.append(["transforms as they run", *(f"{floor[m]['transforms']:.1f}" for m in MODELS)])
    measured = {m: per_file_and_hour(kept, m) for m in MODELS}
    rows.append(["**an hour of sound in an archive, measured**", *(f"**{measured[m][1]:.1f}**" for m in MODELS)])
    rows.append(["times the floor", *(f"{measured[m][1] / sums[m]:.1f}" for m in MODELS)])
    return [
        "## The floor",
        f"CPU seconds of one core for an hour of sound at 16 kHz, one channel: {floor['wav_bytes'] / 1e6:.0f} MB as "
        f"WAV, {floor['flac_bytes'] / 1e6:.0f} MB as FLAC of noisy recordings. Reading and writing take seconds of the "
        f"network ({inputs.gigabits:g} Gbit/s) or of the disk, and no core.",
        table(["", *(f"`{m}`" for m in MODELS)], rows),
    ]


def length_paragraphs(kept: dict[str, Any]) -> list[str]:
    """Files of different lengths, and of different numbers."""
    rows = [
        [
            f"{length} s",
            f"{kept[part_name('default', length)]['files']}",
            *(f"{hour_in_files_of(kept, model, length):.1f}" for model in MODELS),
        ]
        for length in LENGTHS_SECONDS
    ]
    start = start_of(kept)
    fitted = {model: per_file_and_hour(kept, model) for model in MODELS}
    what = ", ".join(
        f"`{model}` takes {1000 * file:.0f} ms for a file and {hour:.1f} s for an hour of sound"
        for model, (file, hour) in fitted.items()
    )
    few = [[f"{count:,}", f"{1000 * file_cost(kept, count):.1f}"] for count in COUNTS]
    return [
        "## Enhance",
        f"`sottovoce archive enhance` with one process, the start left out ({start:.1f} CPU s). CPU seconds for an "
        "hour of sound:",
        table(["files of", "files", *(f"`{model}`" for model in MODELS)], rows),
        f"So {what} (least squares). Every file has its first 3 s go through the network twice, appears whole or not "
        "at all, and has a row in a table.",
        f"**More files**, of {SHORT_SECONDS} s each and all different, `default`:",
        table(["files", "CPU ms a file"], few),
        f"**Workers.** Two are {two_workers():.2f} times as fast as one on two cores "
        "([measured](archive_workers.md) with other work beside them). The table below takes this share "
        f"({two_workers() / 2:.0%}) for any number of cores, which was not measured: processes share the disk alone.",
        "![Cost by length of the files, by their number, and by workers](costs.png)",
    ]


def calm_training(kept: dict[str, Any], model: str) -> dict[str, Any]:
    """What was measured of a training, with the CPU seconds of a calm machine."""
    found = kept[f"training-{model}"]
    slower = found["slowdown"]
    stages = {
        name: found[name] | {part: found[name][part] / slower for part in ("drawing", "learning")}
        for name in ("speech", "joint")
    }
    return found | stages | {"preparing": found["preparing"] / slower}


def training_paragraphs(kept: dict[str, Any], inputs: Inputs) -> list[str]:
    """What a training takes."""
    rows = []
    for model in MODELS:
        found = calm_training(kept, model)
        in_all = sound = 0.0
        for name in ("speech", "joint"):
            stage = found[name]
            step, seconds = stage["drawing"] + stage["learning"], stage["clips"] * found["clip_seconds"]
            in_all += stage["steps"] * step / HOUR
            sound += stage["steps"] * seconds / HOUR
            rows.append(
                [
                    f"`{model}`, {name} stage",
                    f"{stage['steps']:,}",
                    f"{seconds:.0f}",
                    f"{stage['drawing']:.2f} + {stage['learning']:.2f}",
                    f"{step * HOUR / seconds:.0f}",
                    f"{stage['steps'] * step / HOUR:.1f}",
                    f"${stage['steps'] * step / HOUR * inputs.core_hour:.2f}",
                ]
            )
        rows.append(
            [
                f"`{model}`, both",
                "",
                f"{sound:,.0f} h in all",
                "",
                "",
                f"{in_all:.1f}",
                f"${in_all * inputs.core_hour:.2f}",
            ]
        )
    default = calm_training(kept, "default")
    steps = sum(default[name]["steps"] for name in ("speech", "joint"))
    gpu_hours = steps * inputs.gpu_step_ms / 1000 / HOUR
    drawing = default["joint"]["drawing"] * 1000
    feeding = drawing / inputs.gpu_step_ms
    (manifests,) = number_in("training_data", r"2 x 1,000,000 \| ([\d.]+)")
    return [
        "## Train",
        "A training draws clips from what it is given: its steps cost the same for an hour of recordings and for a "
        "thousand. What grows with the amount is the preparation of folders, which reads all of it once and looks for "
        f"pauses: {default['preparing']:.0f} CPU s for an hour of recordings. Of a [manifest](../../docs/"
        "train-on-your-recordings.md#more-recordings-than-a-disk-holds) it reads the list alone, "
        f"[{manifests:g} CPU s](training_data.md) for two of a million recordings, and steps read recordings as they "
        "come. The steps below draw from folders.",
        table(
            [
                "",
                "steps",
                "s of sound a step",
                "CPU s a step: drawing + learning",
                "CPU s for an hour of sound",
                "core hours",
                "price",
            ],
            rows,
        ),
        f"**On a GPU**, with {inputs.gpu_step_ms:g} ms a step as [measured](../../docs/train-on-your-recordings.md"
        f"#how-long-it-takes) on an H100 without the drawing, `default` takes {60 * gpu_hours:.0f} minutes and "
        f"${gpu_hours * inputs.gpu_hour:.2f}. There the bottleneck is drawing: {drawing:.0f} ms of a core a step, so "
        f"that {math.ceil(feeding)} cores feed it.",
        f"**Preparing 100,000 hours** in folders would take {100_000 * default['preparing'] / HOUR:,.0f} core hours "
        f"(${100_000 * default['preparing'] / HOUR * inputs.core_hour:,.0f}), more than the training itself: name a "
        "manifest, or give a training some hours of each place.",
    ]


def archive_paragraphs(kept: dict[str, Any], inputs: Inputs) -> list[str]:
    """The arithmetic for two archives."""
    columns = [
        estimate(files, seconds, per_file_and_hour(kept, model), kept, inputs)
        for _, files, seconds in JOBS
        for model in MODELS
    ]
    rows = [[what, *(column[index] for column in columns)] for index, what in enumerate(ESTIMATED)]
    given = [[part.metadata["what"], f"{getattr(inputs, part.name):g}", flag(part.name)] for part in fields(Inputs)]
    header = ["", *(f"{name}, `{model}`" for name, _, _ in JOBS for model in MODELS)]
    return [
        "## 100,000 hours, and 10,000,000 files",
        "Computed from the numbers above, for recordings at 16 kHz with one channel, and from these inputs, which are "
        "nobody's offers: replace them by your own. `python benchmarks/costs.py --none FLAG VALUE` writes this page "
        "again.",
        table(["input", "value", "flag"], given),
        table(header, rows),
        "- **Machines** are those that end within the hours above. In parentheses: a process reads, enhances and "
        "writes one file after another, so that its core is idle while it waits for a store. With more processes than "
        "cores (`--jobs`), the first number holds.",
        "- **Requests** in parentheses: recordings that lie in shards, and are packed into shards again (`--pack`).",
        "- **Other rates.** Sound at 48 kHz with one channel is three times as much to read, decode, encode and write; "
        "the network takes the same. Two channels take twice as much of all, unless they are `--linked`.",
        "- **Hashes** of the manifest read all recordings once more (`archive make --no-hash` leaves them out).",
        "- **Not in it**: traffic out of a cloud, machines while they start, and what fails.",
    ]


def flag(name: str) -> str:
    """The option of an input."""
    return f"`--{name.replace('_', '-')}`"


def draw(kept: dict[str, Any]) -> None:
    """Write the picture of the page."""
    figure = plots.new_figure(10.0, 3.2)
    by_length, by_number, by_workers = figure.subplots(1, 3)
    for model, colour in zip(MODELS, (plots.COLOURS[0], plots.COLOURS[2]), strict=False):
        costs = [hour_in_files_of(kept, model, length) for length in LENGTHS_SECONDS]
        by_length.plot(LENGTHS_SECONDS, costs, color=colour, marker="o", markersize=4, label=model)
    by_length.set_xscale("log")
    by_length.set_ylim(bottom=0)
    by_length.set_xlabel("length of a file in s", fontsize=9, color=plots.INK)
    by_length.set_ylabel("CPU s for an hour of sound", fontsize=9, color=plots.INK)
    by_length.legend(frameon=False, fontsize=8, labelcolor=plots.INK)
    costs = [1000 * file_cost(kept, count) for count in COUNTS]
    by_number.plot(COUNTS, costs, color=plots.COLOURS[0], marker="o", markersize=4)
    by_number.set_xscale("log")
    by_number.set_ylim(bottom=0)
    by_number.set_xlabel("files", fontsize=9, color=plots.INK)
    by_number.set_ylabel(f"CPU ms for a file of {SHORT_SECONDS} s", fontsize=9, color=plots.INK)
    by_workers.plot([1, 2], [1, two_workers()], color=plots.COLOURS[0], marker="o", markersize=4, label="measured")
    by_workers.plot([1, 2], [1, 2], color=plots.COLOURS[1], linestyle=":", label="ideal")
    by_workers.set_xticks([1, 2])
    by_workers.set_ylim(bottom=0)
    by_workers.set_xlabel("workers", fontsize=9, color=plots.INK)
    by_workers.set_ylabel("times as fast", fontsize=9, color=plots.INK)
    by_workers.legend(frameon=False, fontsize=8, labelcolor=plots.INK)
    for axis in (by_length, by_number, by_workers):
        axis.grid(color=plots.GRID)
        plots.tidy(axis)
    plots.save(figure, RESULTS / "costs.png")


def main() -> None:
    """Measure, print and write benchmarks/results/costs.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"what to measure: {', '.join(PARTS)}; all if none")
    parser.add_argument("--none", action="store_true", help="measure nothing: write the page of what was measured")
    for part in fields(Inputs):
        kind = type(part.default)
        parser.add_argument(
            f"--{part.name.replace('_', '-')}", type=kind, default=part.default, help=part.metadata["what"]
        )
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"found {', '.join(sorted(unknown))}, expected some of {', '.join(PARTS)}")
    os.environ |= ONE_THREAD
    inputs = Inputs(**{part.name: getattr(arguments, part.name) for part in dataclasses.fields(Inputs)})

    kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
    for name in [] if arguments.none else arguments.parts or PARTS:
        before = slowdown()
        found = PARTS[name]()
        kept[name] = {"slowdown": (before + slowdown()) / 2, **found}
        KEPT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    if missing := set(PARTS) - set(kept):
        sys.exit(f"measured; the page also needs {', '.join(sorted(missing))}")
    slower = [found["slowdown"] for found in kept.values()]
    draw(kept)
    finish(
        "costs",
        "Costs",
        [
            "What archives and trainings take, in CPU seconds. Others used this machine at the same time. So before "
            "and after each part the bundled model was run as [speed.md](speed.md) has run it when the machine was "
            f"calm. It took {min(slower):.1f} to {max(slower):.1f} times as long, and what was measured in between is "
            "divided by that. Ratios are better than single numbers.",
            *floor_paragraphs(kept, inputs),
            *length_paragraphs(kept),
            *training_paragraphs(kept, inputs),
            *archive_paragraphs(kept, inputs),
        ],
    )


if __name__ == "__main__":
    main()
