"""What a training consists of: stages, each with the networks that it trains, its loss and its steps."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from sottovoce.config import RunSettings
from sottovoce.data.sampling import Purpose
from sottovoce.models.joint import JointSystem
from sottovoce.objectives.joint import LossTerms, Objective, UnpairedTensors, total


@dataclass(frozen=True)
class Stage:
    """One stage of a training.

    Attributes:
        name: What it is called in tables, logs and the run's folder.
        number: Its place among the stages of the system, from 0: random numbers depend on it.
        first_step: Steps of all stages before it.
        steps: Its own steps.
        trained: The networks that it trains; all others of the system are frozen.
        terms: Named loss terms of a batch; random numbers come from the generator alone.
        loss: What is minimised, of these terms.
        purpose: Which batches it is given.
    """

    name: str
    number: int
    first_step: int
    steps: int
    trained: tuple[nn.Module, ...]
    terms: Callable[[UnpairedTensors, torch.Generator], LossTerms]
    loss: Callable[[LossTerms], Tensor]
    purpose: Purpose = "joint"


def joint_stages(model: JointSystem, settings: RunSettings) -> tuple[Stage, Stage]:
    """The two stages of a joint system.

    Args:
        model: The system.
        settings: All settings.

    Returns:
        "speech", which trains E_S, G, D_A and D_P on clean speech, and "joint", which freezes them and trains the rest.
    """
    objective, training = Objective(settings.frontend), settings.training

    def speech_terms(batch: UnpairedTensors, generator: torch.Generator) -> LossTerms:
        return objective.speech(model, batch.speech, settings.speech_weights, generator)

    def joint_terms(batch: UnpairedTensors, generator: torch.Generator) -> LossTerms:
        return objective.joint(model, batch, settings.joint_weights, generator)

    return (
        Stage(
            "speech",
            0,
            0,
            training.speech_steps,
            tuple(model.speech_parts()),
            speech_terms,
            partial(total, weights=settings.speech_weights),
            "speech",
        ),
        Stage(
            "joint",
            1,
            training.speech_steps,
            training.joint_steps,
            tuple(model.mixture_parts()),
            joint_terms,
            partial(total, weights=settings.joint_weights),
        ),
    )
