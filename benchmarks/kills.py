"""A training that is killed at random moments, again and again: its weights beside those of an unbroken one.

The bundled recordings come from manifests, as an archive's would. `kill -9` goes to one of the training's processes,
drawn by chance where there are two, within or behind a step that is drawn by chance, or while one process looks at
the recordings. Weights and losses are compared byte by byte. Trainings are forked from a process that has loaded what
they need, and draw no pictures, so that all of it takes minutes.
"""

import argparse
import logging
import os
import signal
import socket
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _measure import finish, table

from sottovoce.archive.listing import make_manifest
from sottovoce.config import SystemSettings, load_settings
from sottovoce.errors import ProcessError
from sottovoce.models.checkpoint import save_checkpoint
from sottovoce.training.log import RunLog
from sottovoce.training.preparation import prepare
from sottovoce.training.run import CHECKPOINT, fit, untrained
from sottovoce.training.saved import FINISHED, newest_checkpoint, step_of
from sottovoce.training.stages import joint_stages

EXAMPLES = Path(__file__).parents[1] / "examples" / "unpaired"
SAVE_EVERY, STEPS = 4, {"speech": 40, "joint": 120}
# New steps behind which a kill comes, and how long behind.
NEW_STEPS, DELAY_SECONDS = (1, 10), 0.1
SHARE_IN_PREPARATION = 0.2
SETTINGS = """
base: example
name: kills
training:
  processes: {processes}
  speech_steps: {speech}
  joint_steps: {joint}
  check_every: {save_every}
  data:
    clip_seconds: 0.5
    speech_clips: 2
    mixture_clips: 1
    noise_clips: 1
    simulated_clips: 1
    workers: 1
    stream: {{readers: 2, recordings: 4}}
    simulation: {{room: {{count: 1}}}}
"""


@dataclass(frozen=True)
class Kill:
    """What one kill came upon.

    Attributes:
        saved: Steps of both stages that were saved.
        lost: Steps behind these that had been reported.
        seconds: Time from the kill until the last process of the training had ended.
    """

    saved: int
    lost: int
    seconds: float


def train(folder: Path, out: Path, settings: SystemSettings, report: int) -> None:
    """Train, or go on, and write a byte for every step, and every look at a part of a manifest, to a pipe."""

    def show(task: str, *_: object) -> None:
        os.write(report, b"s" if task.endswith("stage") else b"p")

    model = untrained(settings)
    data = prepare(folder / "speech", folder / "mixtures", out, settings, show)
    stages, processes = joint_stages(model, settings), settings.training.processes
    fit(model, stages, data, out, settings, processes=processes, on_progress=show)
    save_checkpoint(out / CHECKPOINT, model, settings)


def started(folder: Path, out: Path, settings: SystemSettings) -> tuple[list[int], int]:
    """Start the processes of a training, in a group of their own; give them, and the pipe of the first one."""
    reached, report = os.pipe()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes: list[int] = []
    for number in range(settings.training.processes):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
            process = os.fork()
        if not process:
            code = 1
            try:
                os.setpgid(0, processes[0] if processes else 0)
                if settings.training.processes > 1:
                    os.environ |= {"LOCAL_RANK": str(number), "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
                    os.environ |= {"MASTER_PORT": str(port), "WORLD_SIZE": str(settings.training.processes)}
                train(folder, out, settings, report if not number else os.open(os.devnull, os.O_WRONLY))
                code = 0
            except ProcessError:
                code = 3
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        processes.append(process)
    os.close(report)
    return processes, reached


def group_runs(group: int) -> bool:
    """Whether a process of a group still runs."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, found = (folder / "stat").read_text().rpartition(") ")[2].split()[:3]
        except OSError:
            continue
        if int(found) == group and state != "Z":
            return True
    return False


def saved(out: Path) -> int:
    """Steps of both stages that are saved."""
    count = 0
    for stage, steps in STEPS.items():
        folder = out / "stages" / stage
        newest = newest_checkpoint(folder)
        count += steps if (folder / FINISHED).exists() else 0 if newest is None else step_of(newest)
    return count


def killed(folder: Path, out: Path, settings: SystemSettings, rng: np.random.Generator) -> Kill | None:
    """Start or go on with a training and kill one of its processes; None if it has ended before."""
    # A command's processes end by each other's before their first step, too: tests/training/test_processes.py.
    in_preparation = settings.training.processes == 1 and rng.random() < SHARE_IN_PREPARATION
    kind, wanted = (b"p", int(rng.integers(1, 5))) if in_preparation else (b"s", int(rng.integers(*NEW_STEPS)))
    before = saved(out)
    processes, reached = started(folder, out, settings)
    steps = seen = 0
    with os.fdopen(reached, "rb", buffering=0) as pipe:
        while seen < wanted and (byte := pipe.read(1)):
            seen += byte == kind
            steps += byte == b"s"
        time.sleep(rng.uniform(0, DELAY_SECONDS))
        os.kill(processes[int(rng.integers(len(processes)))], signal.SIGKILL)
        start = time.monotonic()
        codes = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]
        steps += pipe.read().count(b"s")
    while group_runs(processes[0]):
        time.sleep(0.02)
    if -signal.SIGKILL not in codes:
        print(f"ended with {codes} before the kill", file=sys.stderr, flush=True)
        return None
    found = saved(out)
    return Kill(found, before + steps - found, time.monotonic() - start)


def finished(folder: Path, out: Path, settings: SystemSettings) -> None:
    """Train to the end."""
    processes, reached = started(folder, out, settings)
    with os.fdopen(reached, "rb") as pipe:
        pipe.read()
    for process in processes:
        if code := os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]):
            sys.exit(f"a training ended with {code}")


def compare(folder: Path, processes: int, kills: int, rng: np.random.Generator) -> list[str]:
    """A row of the table."""
    path = folder / "kills.yaml"
    path.write_text(SETTINGS.format(processes=processes, save_every=SAVE_EVERY, **STEPS))
    settings = load_settings(path)
    whole, broken = folder / f"whole-{processes}", folder / f"broken-{processes}"
    finished(folder, whole, settings)
    print(f"an unbroken training in {processes} processes is done", file=sys.stderr, flush=True)
    done: list[Kill] = []
    while len(done) < kills and (kill := killed(folder, broken, settings, rng)) is not None:
        done.append(kill)
        print(
            f"kill {len(done)}: {kill.saved} steps saved, {kill.lost} lost, all ended after {kill.seconds:.1f} s",
            file=sys.stderr,
            flush=True,
        )
    finished(folder, broken, settings)
    equal = [(whole / name).read_bytes() == (broken / name).read_bytes() for name in (CHECKPOINT, "losses.csv")]
    row = [
        str(processes),
        str(len(done)),
        str(len({kill.saved for kill in done})),
        str(max(kill.lost for kill in done)),
        f"{max(kill.seconds for kill in done):.1f}",
        *("equal" if each else "DIFFERENT" for each in equal),
    ]
    print(" | ".join(row), file=sys.stderr, flush=True)
    return row


def main() -> None:
    """Measure, print and write benchmarks/results/kills.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, nargs=2, default=(20, 0), help="kills of one process, and of two")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    logging.disable()
    RunLog._examine = lambda *_: None  # type: ignore[method-assign]  # checks and pictures, which take the most time
    rng = np.random.default_rng(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind in ("speech", "mixtures"):
            make_manifest([EXAMPLES / kind], folder / kind, part_items=5)
        rows = [
            compare(folder, processes, kills, rng)
            for processes, kills in zip((1, 2), arguments.kills, strict=True)
            if kills
        ]
    header = ["processes", "kills", "states", "most steps lost", "longest end (s)", "weights", "losses"]
    finish(
        "kills",
        "Trainings that are killed",
        [
            f"A small system is trained on the bundled recordings, which manifests list: {STEPS['speech']} and "
            f"{STEPS['joint']} steps, saved every {SAVE_EVERY}. `kill -9` at random moments (seed {arguments.seed}), "
            "and the training goes on; in the end it is compared byte by byte with one that was never killed.",
            table(header, rows),
            "*States*: how many different steps the kills came upon as the last ones that were saved. *Longest end*: "
            "the time from a kill until the last process of the training had ended.",
        ],
    )


if __name__ == "__main__":
    main()
