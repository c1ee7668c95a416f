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

    def batch(self, number: int, purpose: Purpose, /) -> UnpairedBatch:
        """Draw a batch, which depends on its number and the purpose alone."""
        ...


class UnpairedBatches(IterableDataset[UnpairedTensors]):
    """Batches in order, whatever the number of workers.

    Args:
        clips: Where batches come from.
        purpose: Which batches.
        numbers: Their numbers.
    """

    def __init__(self, clips: Clips, purpose: Purpose, numbers: range) -> None:
        self._clips = clips
        self._purpose = purpose
        self._numbers = numbers

    def __iter__(self) -> Iterator[UnpairedTensors]:
        """Draw this worker's share: the loader asks its workers in turn."""
        worker = get_worker_info()
        offset, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        for number in self._numbers[offset::stride]:
            yield UnpairedTensors(*map(torch.from_numpy, self._clips.batch(number, self._purpose)))


def loader(clips: Clips, purpose: Purpose, numbers: range, workers: int) -> DataLoader[UnpairedTensors]:
    """A loader of ready batches.

    Args:
        clips: Where batches come from.
        purpose: Which batches.
        numbers: Their numbers.
        workers: Processes that draw.

    Returns:
        Loader of one batch of tensors at a time.
    """
    return DataLoader(
        UnpairedBatches(clips, purpose, numbers),
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


def completes_a_step(trainer: L.Trainer, batch_idx: int) -> bool:
    """Whether a batch is the last one of a step; before that its gradients are added up, and no state can be saved."""
    return (batch_idx + 1) % trainer.accumulate_grad_batches == 0


class TrainingModule(L.LightningModule):
    """One stage of a training.

    Step s takes the batches number s M to s M + M - 1, where M is `processes` times `accumulate`: process r of P takes
    those of number r modulo P. So the gradient of a step is the same, however M is made up.

    Args:
        network: All networks of the system.
        stage: The stage.
        settings: Seed, optimiser, and how many batches each process adds up.
        rank: Number of this process.
        processes: Processes that train together.
    """

    def __init__(
        self, network: nn.Module, stage: Stage, settings: TrainingSettings, rank: int = 0, processes: int = 1
    ) -> None:
        super().__init__()
        self.rank, self.processes = rank, processes
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

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        """Loss of one batch, and its terms; its random numbers depend on seed, stage and number of the batch alone."""
        stage, settings = self.stage, self.settings
        of_this_process = self.global_step * settings.accumulate + batch_idx % settings.accumulate
        number = of_this_process * self.processes + self.rank
        key = np.random.SeedSequence([settings.seed, stage.number, number]).generate_state(1)[0]
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
