"""The Lightning step of all stages, of the joint system and of the baselines."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from multiprocessing import get_all_start_methods
from typing import Any, Literal, Self

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from sottovoce.baselines.network import Baseline
from sottovoce.config import MaskingSettings, SystemSettings
from sottovoce.data.paired import PairedClips
from sottovoce.data.unpaired import Purpose, UnpairedClips
from sottovoce.models.joint import JointAutoencoder
from sottovoce.objectives.joint import LossTerms, Objective, UnpairedTensors, total

Stage = Literal["speech", "joint", "pretraining", "training"]
"""The first two are those of the joint system, the others those of a baseline."""

FIRST_STAGES: tuple[Stage, ...] = ("speech", "pretraining")

Clips = UnpairedClips | PairedClips


def stages(settings: SystemSettings) -> tuple[Stage, ...]:
    """Stages of a training, in order; a network that learns masks from pairs has no pre-training.

    Args:
        settings: All settings.

    Returns:
        One or two stages.
    """
    if settings.baseline is None:
        return ("speech", "joint")
    return ("training",) if isinstance(settings.baseline, MaskingSettings) else ("pretraining", "training")


def stage_steps(settings: SystemSettings, stage: Stage) -> int:
    """Number of steps of a stage; a training of one stage has the steps of both, for an equal budget."""
    training = settings.training
    if len(stages(settings)) == 1:
        return training.speech_steps + training.joint_steps
    return training.speech_steps if stage in FIRST_STAGES else training.joint_steps


class UnpairedSteps(IterableDataset[UnpairedTensors]):
    """Batches of the steps from `first` to `last`, in order, whatever the number of workers.

    Args:
        clips: Where batches come from.
        stage: The stage.
        first: First step.
        last: Step behind the last.
    """

    def __init__(self, clips: Clips, stage: Stage, first: int, last: int) -> None:
        self._clips = clips
        self._stage = stage
        self._first = first
        self._last = last

    def __iter__(self) -> Iterator[UnpairedTensors]:
        """Draw this worker's share: the loader asks its workers in turn."""
        worker = get_worker_info()
        offset, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        for step in range(self._first + offset, self._last, stride):
            # A baseline hears what the joint stage hears, in its pre-training as well.
            purpose: Purpose = "speech" if self._stage == "speech" else "joint"
            yield UnpairedTensors(*map(torch.from_numpy, self._clips.batch(step, purpose)))


def loader(clips: Clips, stage: Stage, first: int, last: int, workers: int) -> DataLoader[UnpairedTensors]:
    """A loader of ready batches.

    Args:
        clips: Where batches come from.
        stage: The stage.
        first: First step.
        last: Step behind the last.
        workers: Processes that draw.

    Returns:
        Loader of one batch of tensors a step.
    """
    return DataLoader(
        UnpairedSteps(clips, stage, first, last),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        # Forked workers share what is loaded already; where there is no fork they start anew.
        multiprocessing_context=("fork" if "fork" in get_all_start_methods() else "spawn") if workers else None,
        worker_init_fn=_one_thread,
    )


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)


class TrainingModule(L.LightningModule, ABC):
    """One stage of a training.

    Args:
        settings: All settings.
        stage: The stage.
        network: All networks of the system.
        trained: Those that this stage trains; all others are frozen.
    """

    def __init__(
        self, settings: SystemSettings, stage: Stage, network: nn.Module, trained: Sequence[nn.Module]
    ) -> None:
        super().__init__()
        self.settings = settings
        self.stage = stage
        self.network = network
        self._trained_parts = list(trained)
        self._trained = {parameter for part in trained for parameter in part.parameters()}
        for parameter in network.parameters():
            parameter.requires_grad_(parameter in self._trained)
        self.train()  # Lightning leaves the mode as it finds it.

    @abstractmethod
    def terms(self, batch: UnpairedTensors, generator: torch.Generator) -> LossTerms:
        """Loss terms of a batch by name."""

    @abstractmethod
    def loss(self, terms: LossTerms) -> Tensor:
        """What is minimised."""

    def train(self, mode: bool = True) -> Self:
        """Set the mode, but keep frozen networks in evaluation mode.

        Without this the batch statistics of the "frozen" speech autoencoder would drift in the joint stage.
        """
        super().train(False)
        for part in self._trained_parts:
            part.train(mode)
        self.training = mode
        return self

    def training_step(self, batch: UnpairedTensors, _: int) -> Tensor:
        """Loss of one step; its random numbers depend on seed, stage and step alone."""
        seed = self.settings.training.seed
        number = stages(self.settings).index(self.stage)
        key = np.random.SeedSequence([seed, number, self.global_step]).generate_state(1)[0]
        generator = torch.Generator().manual_seed(int(key))
        terms = self.terms(batch, generator)
        loss = self.loss(terms)
        values = {f"{self.stage}/{name}": term.detach() for name, term in terms.items()}
        self.log_dict({**values, f"{self.stage}/total": loss.detach()})
        return loss

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam with a linear warm-up and a half cosine down to the final rate."""
        settings = self.settings.training.optimiser
        steps = stage_steps(self.settings, self.stage)
        final = settings.final_learning_rate / settings.learning_rate

        def factor(step: int) -> float:
            if step < settings.warmup_steps:
                return (step + 1) / settings.warmup_steps
            share = min(1.0, (step - settings.warmup_steps) / max(1, steps - settings.warmup_steps))
            return float(final + (1 - final) * 0.5 * (1 + np.cos(np.pi * share)))

        optimiser = torch.optim.Adam(
            [parameter for parameter in self.parameters() if parameter in self._trained],
            lr=settings.learning_rate,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
        )
        schedule: Any = {"scheduler": torch.optim.lr_scheduler.LambdaLR(optimiser, factor), "interval": "step"}
        return {"optimizer": optimiser, "lr_scheduler": schedule}


class JointModule(TrainingModule):
    """One stage of the training of a joint system.

    Args:
        model: The system.
        settings: All settings.
        stage: "speech" trains E_S, G, D_A and D_P on clean speech; "joint" freezes them and trains the rest.
    """

    def __init__(self, model: JointAutoencoder, settings: SystemSettings, stage: Stage) -> None:
        super().__init__(settings, stage, model, model.speech_parts() if stage == "speech" else model.mixture_parts())
        self.model = model
        self.objective = Objective(settings.frontend)
        self.weights = settings.speech_weights if stage == "speech" else settings.joint_weights

    def terms(self, batch: UnpairedTensors, generator: torch.Generator) -> LossTerms:
        """Loss terms of a batch by name."""
        if self.stage == "speech":
            return self.objective.speech(self.model, batch.speech, self.settings.speech_weights, generator)
        return self.objective.joint(self.model, batch, self.settings.joint_weights, generator)

    def loss(self, terms: LossTerms) -> Tensor:
        """Sum of weight x term."""
        return total(terms, self.weights)


class BaselineModule(TrainingModule):
    """One stage of the training of a baseline.

    Args:
        model: The baseline.
        settings: All settings.
        stage: "pretraining" on unlabelled recordings, or "training" on pseudo-pairs or pairs.
    """

    def __init__(self, model: Baseline, settings: SystemSettings, stage: Stage) -> None:
        trained = model.pretrained_parts() if stage == "pretraining" else model.trained_parts()
        super().__init__(settings, stage, model, trained)
        self.model = model

    def terms(self, batch: UnpairedTensors, generator: torch.Generator) -> LossTerms:
        """Loss terms of a batch by name."""
        if self.stage == "pretraining":
            return self.model.pretraining_terms(batch, generator)
        return self.model.terms(batch, generator)

    def loss(self, terms: LossTerms) -> Tensor:
        """Sum of the terms, which have their weights already."""
        return torch.stack(list(terms.values())).sum()
