"""Where an interrupted stage goes on: the newest state of its training, in one file."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L

from sottovoce.atomic import replacing
from sottovoce.interruption import Deferred

FINISHED = "finished.pt"
"""Name of the networks in a stage's folder once the stage is finished."""

_EVERY_SECONDS = 120.0
_STAGES = ("speech", "joint")  # of what has a command of its own


class Checkpoints(L.Callback):
    """Saves the state of a training every so many steps, every two minutes, and when the process is to end.

    Args:
        folder: Folder of the stage.
        every: Steps between checkpoints.
        stop: Notes signals while the stage is trained; the training then stops after a whole step.
        clock: Gives the time in seconds.
    """

    def __init__(self, folder: Path, every: int, stop: Deferred, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._every = every
        self._stop = stop
        self._clock = clock
        self._saved_at = clock()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin to count the time."""
        # Lightning has put its own handler of SIGTERM in place, which would end the process without a checkpoint.
        self._stop.heed()
        self._saved_at = self._clock()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save the state if it is time to."""
        step, is_last = trainer.global_step, self._stop.is_requested
        if is_last or step % self._every == 0 or self._clock() - self._saved_at >= _EVERY_SECONDS:
            with replacing(self._folder / f"step={step}.ckpt") as temporary:
                trainer.save_checkpoint(temporary)
            for checkpoint in self._folder.glob("step=*.ckpt"):
                if step_of(checkpoint) != step:
                    checkpoint.unlink()
            self._saved_at = self._clock()
        if is_last:
            trainer.should_stop = True


def newest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint of the latest step in a stage's folder, or None."""
    return max(folder.glob("step=*.ckpt"), key=step_of, default=None)


def step_of(checkpoint: Path) -> int:
    """Number of steps behind a checkpoint."""
    return int(checkpoint.stem.split("=")[1].split("-")[0])


def saved_until(out: Path) -> str:
    """Up to where a training is saved.

    Args:
        out: The run's folder.

    Returns:
        "step 40 of the joint stage" or "the end of the speech stage"; nothing where nothing is saved.
    """
    until = ""
    for stage in _STAGES:
        folder = out / "stages" / stage
        if (folder / FINISHED).exists():
            until = f"the end of the {stage} stage"
        elif (checkpoint := newest_checkpoint(folder)) is not None:
            until = f"step {step_of(checkpoint)} of the {stage} stage"
    return until


def when_resumed(out: Path) -> str:
    """Where a training goes on.

    Args:
        out: The run's folder.

    Returns:
        A sentence; nothing where there was no training before.
    """
    if not out.is_dir() or not any(out.iterdir()):
        return ""
    until = saved_until(out)
    return f"going on from {until}" if until else "nothing of the training was saved: starting from the beginning"


def when_interrupted(out: Path) -> str:
    """What is saved of a training that is interrupted, and how to go on.

    Args:
        out: The run's folder.

    Returns:
        A sentence.
    """
    until = saved_until(out)
    if not until:
        return "nothing of the training is saved yet: the same command starts from the beginning"
    return f"the training is saved in {out} up to {until}: the same command goes on from there"
