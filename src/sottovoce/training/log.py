"""What a run writes while it trains: losses and health as tables and pictures, TensorBoard, progress."""

import csv
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from torch import Tensor

from sottovoce.atomic import replacing
from sottovoce.data.corpora.skipped import Skipped
from sottovoce.metrics import plots
from sottovoce.models.joint import JointSystem
from sottovoce.progress import Progress
from sottovoce.training.health import check
from sottovoce.training.module import TrainingModule, completes_a_step
from sottovoce.training.stages import Stage

_DRAW_EVERY_SECONDS = 60.0
_MAX_NAMED = 10

_log = logging.getLogger(__name__)


class RunLog(L.Callback):
    """Keeps `losses.csv`, `health.csv`, their pictures and TensorBoard up to date.

    Args:
        folder: The run's folder.
        stage: The stage.
        sample_rate: Rate of all clips in Hz.
        speech: Held-out clean speech `(B, T)`.
        mixtures: Held-out noisy recordings `(M, T)`.
        noise: Noise-only clips `(K, T)`.
        every: Steps between checks and pictures.
        on_progress: Called every step.
    """

    def __init__(
        self,
        folder: Path,
        stage: Stage,
        *,
        sample_rate: int,
        speech: Tensor,
        mixtures: Tensor,
        noise: Tensor,
        every: int,
        on_progress: Progress | None,
    ) -> None:
        self._stage = stage
        self._losses, self._health = (Table(folder / f"{name}.csv", stage.name) for name in ("losses", "health"))
        self._folder = folder
        self._sample_rate = sample_rate
        self._speech, self._mixtures, self._noise = speech, mixtures, noise
        self._every = every
        self._on_progress = on_progress
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._running_loss = float("nan")
        self._drawn_at = -float("inf")

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forget what an interrupted run wrote behind the checkpoint that is resumed."""
        if not trainer.is_global_zero:
            return
        for table in (self._losses, self._health):
            table.keep_until(trainer.global_step, alone=self._stage.number == 0)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: the losses since the last row."""
        return {"sums": self._sums, "counts": self._counts, "running_loss": self._running_loss}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what a checkpoint has kept."""
        self._sums, self._counts = dict(state_dict["sums"]), dict(state_dict["counts"])
        self._running_loss = state_dict["running_loss"]

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add up losses; write their means now and then, and check the health of a joint system."""
        if not trainer.is_global_zero:
            return
        stage, step, steps = self._stage.name, trainer.global_step, int(trainer.max_steps)
        for name, value in outputs["terms"].items():  # a step may have some of the terms alone
            self._sums[name] = self._sums.get(name, 0.0) + float(value)
            self._counts[name] = self._counts.get(name, 0) + 1
        loss = float(outputs["terms"]["total"])
        self._running_loss = loss if np.isnan(self._running_loss) else 0.98 * self._running_loss + 0.02 * loss
        if not completes_a_step(trainer, batch_idx):
            return
        if self._on_progress is not None:
            note = f"step {step} of {steps}, loss {self._running_loss:.4f}"
            self._on_progress(f"{stage} stage", step, steps, note)
        if step % max(1, self._every // 10) == 0 or step == steps:
            means = {name: value / self._counts[name] for name, value in self._sums.items()}
            self._losses.append(step, means)
            self._sums, self._counts = {}, {}
        assert isinstance(pl_module, TrainingModule)
        if (step % self._every == 0 or step == steps) and isinstance(pl_module.network, JointSystem):
            self._examine(trainer, pl_module, pl_module.network, step)

    def _examine(self, trainer: L.Trainer, module: TrainingModule, system: JointSystem, step: int) -> None:
        module.eval()
        speech, mixtures, noise = (clips.to(module.device) for clips in (self._speech, self._mixtures, self._noise))
        health = check(system, speech, mixtures, noise).values()
        enhanced = system.enhance(mixtures[:1])[0].cpu().numpy()
        module.train()
        self._health.append(step, health)
        # A picture takes seconds to draw; the run's end draws the last one.
        if time.monotonic() - self._drawn_at > _DRAW_EVERY_SECONDS:
            plot_run(self._folder)
            self._drawn_at = time.monotonic()
        board = getattr(trainer.logger, "experiment", None)
        if board is None:
            return
        board_step = self._stage.first_step + step  # the stages follow each other on one axis
        for name, value in health.items():
            board.add_scalar(f"health/{name}", value, board_step)
        rate = self._sample_rate
        mixture = self._mixtures[0].numpy()
        figure = plots.recordings([("held-out mixture", mixture, rate), ("enhanced", enhanced, rate)])
        board.add_figure("held_back/before_after", figure, board_step)
        for name, waveform in (("mixture", mixture), ("enhanced", enhanced)):
            peak = max(1e-6, float(np.abs(waveform).max()))
            board.add_audio(f"held_back/{name}", waveform / peak, board_step, rate)


class ScoreLog(L.Callback):
    """Scores a stage on its way and keeps the scores in a table that survives interruptions.

    Args:
        path: The table.
        stage: Name of the stage that is scored.
        name: What the score is called.
        score: Gives the score of the networks, in evaluation mode.
        every: Steps between scores; the end of the stage is not scored.
        on_scores: Called with all scores by step when the stage begins, is resumed and after each score; what it raises
            ends the training.
    """

    def __init__(
        self,
        path: Path,
        stage: str,
        *,
        name: str,
        score: Callable[[JointSystem], float],
        every: int,
        on_scores: Callable[[dict[int, float]], None],
    ) -> None:
        self._path = path
        self._table = Table(path, stage)
        self._stage = stage
        self._name = name
        self._score = score
        self._every = every
        self._on_scores = on_scores

    def scores(self) -> dict[int, float]:
        """The scores by step."""
        return {int(row["step"]): float(row[self._name]) for row in read_table(self._path)}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forget what an interrupted run scored behind the checkpoint that is resumed."""
        assert isinstance(pl_module, TrainingModule)
        if pl_module.stage.name == self._stage:
            self._table.keep_until(trainer.global_step)
            self._on_scores({step: value for step, value in self.scores().items() if step <= trainer.global_step})

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Score now and then."""
        if not trainer.is_global_zero or not completes_a_step(trainer, batch_idx):
            return
        assert isinstance(pl_module, TrainingModule)
        step, network = trainer.global_step, pl_module.network
        if pl_module.stage.name != self._stage or step % self._every or step >= int(trainer.max_steps):
            return
        assert isinstance(network, JointSystem)
        pl_module.eval()
        value = self._score(network)
        pl_module.train()
        self._table.append(step, {self._name: value})
        self._on_scores(self.scores())


class SkippedLog(L.Callback):
    """Says what the processes that draw batches could not use; the table names all of it.

    Args:
        skipped: The table.
        every: Steps between looks at it.
    """

    def __init__(self, skipped: Skipped, every: int) -> None:
        self._skipped = skipped
        self._every = every
        self._said: set[tuple[str, str]] = set()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at the table now and then."""
        if completes_a_step(trainer, batch_idx) and trainer.global_step % self._every == 0:
            self._say(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look at it for the last time."""
        self._say(trainer)

    def _say(self, trainer: L.Trainer) -> None:
        found = self._skipped.read() if trainer.is_global_zero else {}
        new = [reason for key, reason in found.items() if key not in self._said]
        if not new:
            return
        for reason in new[: max(0, _MAX_NAMED - len(self._said))]:
            _log.warning("left out: %s", reason)
        _log.warning("%d recordings could not be used so far: see %s", len(found), self._skipped.path)
        self._said |= found.keys()


class Table:
    """A CSV file of values by stage and step that survives interruptions.

    Args:
        path: The file.
        stage: Name of the stage of the rows to come.
    """

    def __init__(self, path: Path, stage: str) -> None:
        self._path = path
        self._stage = stage
        self._rows: list[dict[str, str]] = []

    def keep_until(self, step: int, *, alone: bool = False) -> None:
        """Read what there is, without this stage's rows behind a step.

        Args:
            step: The last step that is kept.
            alone: Whether the stage is the first: rows of others then belong to an earlier run of it.
        """
        rows = read_table(self._path)
        self._rows = [row for row in rows if row["stage"] != self._stage or int(row["step"]) <= step]
        if alone:
            self._rows = [row for row in self._rows if row["stage"] == self._stage]

    def append(self, step: int, values: Mapping[str, float]) -> None:
        """Add a row and write the table."""
        row = {name: f"{value:.6g}" for name, value in values.items()}
        self._rows.append({"stage": self._stage, "step": str(step), **row})
        names = list(dict.fromkeys(name for row in self._rows for name in row))
        with replacing(self._path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(self._rows)


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows of a table of a run, or none where there is no table yet."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def plot_run(folder: Path) -> None:
    """Draw `losses.png` and `health.png` from the tables of a run.

    Args:
        folder: The run's folder.
    """
    for name in ("losses", "health"):
        rows = read_table(folder / f"{name}.csv")
        if rows:
            plots.save(plots.curves(rows, logarithmic=name == "losses"), folder / f"{name}.png")
