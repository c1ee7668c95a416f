"""The Lightning step of a stage, and the batches that it is given."""

from collections.abc import Iterator
from multiprocessing import get_all_start_methods
from typing import Any, Protocol, Self

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from sottovoce.config import TrainingSettings
from sottovoce.data.sampling import Purpose, UnpairedBatch
from sottovoce.interruption import leave_to_parent
from sottovoce.objectives.joint import UnpairedTensors
from sottovoce.training.stages import Stage


class Clips(Protocol):
    """Where batches come from."""

    def batch(self, step: int, purpose: Purpose) -> UnpairedBatch:
        """Draw the batch of a step, which depends on the step and the purpose alone."""
        ...


class UnpairedSteps(IterableDataset[UnpairedTensors]):
    """Batches of the steps from `first` to `last`, in order, whatever the number of workers.

    Args:
        clips: Where batches come from.
        purpose: Which batches.
        first: First step.
        last: Step behind the last.
    """

    def __init__(self, clips: Clips, purpose: Purpose, first: int, last: int) -> None:
        self._clips = clips
        self._purpose = purpose
        self._first = first
        self._last = last

    def __iter__(self) -> Iterator[UnpairedTensors]:
        """Draw this worker's share: the loader asks its workers in turn."""
        worker = get_worker_info()
        offset, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        for step in range(self._first + offset, self._last, stride):
            yield UnpairedTensors(*map(torch.from_numpy, self._clips.batch(step, self._purpose)))


def loader(clips: Clips, purpose: Purpose, first: int, last: int, workers: int) -> DataLoader[UnpairedTensors]:
    """A loader of ready batches.

    Args:
        clips: Where batches come from.
        purpose: Which batches.
        first: First step.
        last: Step behind the last.
        workers: Processes that draw.

    Returns:
        Loader of one batch of tensors a step.
    """
    return DataLoader(
        UnpairedSteps(clips, purpose, first, last),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        # Forked workers share what is loaded already; where there is no fork they start afresh.
        multiprocessing_context=("fork" if "fork" in get_all_start_methods() else "spawn") if workers else None,
        worker_init_fn=_begin_to_draw,
    )


def _begin_to_draw(_: int) -> None:
    torch.set_num_threads(1)
    leave_to_parent()


class TrainingModule(L.LightningModule):
    """One stage of a training.

    Args:
        network: All networks of the system.
        stage: The stage.
        settings: Seed and optimiser.
    """

    def __init__(self, network: nn.Module, stage: Stage, settings: TrainingSettings) -> None:
        super().__init__()
        self.network = network
        self.stage = stage
        self.settings = settings
        self._trained = {parameter for part in stage.trained for parameter in part.parameters()}
        for parameter in network.parameters():
            parameter.requires_grad_(parameter in self._trained)
        self.train()  # Lightning leaves the mode as it finds it.

    def train(self, mode: bool = True) -> Self:
        """Set the mode, but keep frozen networks in evaluation mode.

        Without this the batch statistics of the "frozen" speech autoencoder would drift in the joint stage.
        """
        super().train(False)
        for part in self.stage.trained:
            part.train(mode)
        self.training = mode
        return self

    def training_step(self, batch: UnpairedTensors, _: int) -> dict[str, Any]:
        """Loss of one step, and its terms; its random numbers depend on seed, stage and step alone."""
        stage = self.stage
        key = np.random.SeedSequence([self.settings.seed, stage.number, self.global_step]).generate_state(1)[0]
        terms = stage.terms(batch, torch.Generator().manual_seed(int(key)))
        loss = stage.loss(terms)
        values = {name: term.detach() for name, term in terms.items()} | {"total": loss.detach()}
        self.log_dict({f"{stage.name}/{name}": value for name, value in values.items()})
        return {"loss": loss, "terms": values}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam with a linear warm-up and a half cosine down to the final rate."""
        settings, steps = self.settings.optimiser, self.stage.steps
        final = settings.final_learning_rate / settings.learning_rate

        def factor(step: int) -> float:
            if step < settings.warmup_steps:
                return (step + 1) / settings.warmup_steps
            share = min(1.0, (step - settings.warmup_steps) / max(1, steps - settings.warmup_steps))
            return float(final + (1 - final) * 0.5 * (1 + np.cos(np.pi * share)))

        slowed = {parameter for part in self.stage.slowed for parameter in part.parameters()}
        trained = [parameter for parameter in self.parameters() if parameter in self._trained]
        groups: list[dict[str, Any]] = [{"params": [each for each in trained if each not in slowed]}]
        if slowed:
            slow_rate = settings.learning_rate * self.stage.slow_rate
            groups.append({"params": [each for each in trained if each in slowed], "lr": slow_rate})
        optimiser = torch.optim.Adam(
            groups,
            lr=settings.learning_rate,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
        )
        schedule: Any = {"scheduler": torch.optim.lr_scheduler.LambdaLR(optimiser, factor), "interval": "step"}
        return {"optimizer": optimiser, "lr_scheduler": schedule}
