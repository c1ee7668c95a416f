"""What is saved of a stage: the newest state of its training, where it goes on, and networks on their way."""

import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import lightning as L

from sottovoce.atomic import replacing
from sottovoce.config import RunSettings
from sottovoce.interruption import Deferred
from sottovoce.models.checkpoint import save_checkpoint
from sottovoce.training.module import TrainingModule, completes_a_step
from sottovoce.training.saved import step_of

_EVERY_SECONDS = 120.0


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
        if not completes_a_step(trainer, batch_idx):
            return
        step, is_last = trainer.global_step, self._stop.is_requested
        is_due = step % self._every == 0 or self._clock() - self._saved_at >= _EVERY_SECONDS
        if trainer.world_size > 1:
            # All do it or none: a signal comes to one of them, and clocks differ.
            is_last = trainer.strategy.reduce_boolean_decision(is_last, all=False)
            is_due = trainer.strategy.reduce_boolean_decision(is_due, all=False)
        if is_last or is_due:
            self._save(trainer, step)
            self._saved_at = self._clock()
        if is_last:
            trainer.should_stop = True

    def _save(self, trainer: L.Trainer, step: int) -> None:
        path = self._folder / f"step={step}.ckpt"
        if not trainer.is_global_zero:
            trainer.save_checkpoint(path)  # takes part, and writes nothing
            return
        with replacing(path) as temporary:
            trainer.save_checkpoint(temporary)
        for checkpoint in self._folder.glob("step=*.ckpt"):
            if step_of(checkpoint) != step:
                checkpoint.unlink()


class Snapshots(L.Callback):
    """Keeps the networks after some steps of a stage, as `step=N.safetensors`.

    Args:
        folder: Where they are kept.
        settings: Settings of the training.
        stage: Name of the stage.
        steps: After which of its steps; its last one gives the finished networks.
    """

    def __init__(self, folder: Path, settings: RunSettings, stage: str, steps: Collection[int]) -> None:
        self._folder = folder
        self._settings = settings
        self._stage = stage
        self._steps = steps

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep them if it is time to."""
        if not trainer.is_global_zero or not completes_a_step(trainer, batch_idx):
            return
        assert isinstance(pl_module, TrainingModule)
        step = trainer.global_step
        if pl_module.stage.name == self._stage and step in self._steps and step < pl_module.stage.steps:
            self._folder.mkdir(exist_ok=True)
            save_checkpoint(self._folder / f"step={step}.safetensors", pl_module.network, self._settings)
