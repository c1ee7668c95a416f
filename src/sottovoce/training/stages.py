"""What a training consists of: stages, each with the networks that it trains, its loss and its steps."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, get_args

import torch
from torch import Tensor, nn

from sottovoce.config import RunSettings, SpeechPart
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
        terms: Named loss terms of a batch, of the kind that the stage is given; random numbers come from the generator
            alone.
        loss: What is minimised, of these terms.
        purpose: Which batches it is given.
        slowed: Those of the trained networks that learn at `slow_rate` of the learning rate.
        slow_rate: Their share of it.
    """

    name: str
    number: int
    first_step: int
    steps: int
    trained: tuple[nn.Module, ...]
    terms: Callable[[Any, torch.Generator], LossTerms]
    loss: Callable[[LossTerms], Tensor]
    purpose: Purpose = "joint"
    slowed: tuple[nn.Module, ...] = ()
    slow_rate: float = 1.0


def joint_stages(model: JointSystem, settings: RunSettings) -> tuple[Stage, Stage]:
    """The two stages of a joint system.

    Args:
        model: The system.
        settings: All settings.

    Returns:
        "speech", which trains E_S, G, D_A and D_P on clean speech, and "joint", which freezes them and trains the rest,
        or, with `training.joint_learning`, trains everything on clean speech and noisy recordings.

    Source:
        Li, Sun, Wang and Naqvi (SSPD 2023): both autoencoders jointly learn the shared latent space. The predecessor
        (Wang, Venkataramani and Smaragdis 2020) freezes the first one.
    """
    objective, training = Objective(settings.frontend), settings.training
    speech_weights, joint_weights = settings.speech_weights.model_dump(), settings.joint_weights.model_dump()
    learning = training.joint_learning

    def speech_terms(batch: UnpairedTensors, generator: torch.Generator) -> LossTerms:
        return objective.speech(model, batch.speech, settings.speech_weights, generator)

    def joint_terms(batch: UnpairedTensors, generator: torch.Generator) -> LossTerms:
        return objective.joint(model, batch, settings.joint_weights, generator)

    def all_terms(batch: UnpairedTensors, generator: torch.Generator) -> LossTerms:
        assert learning is not None
        takes_speech, takes_mixtures = True, True
        if learning.alternate:
            takes_speech = bool(torch.rand((), generator=generator) < 0.5)
            takes_mixtures = not takes_speech
        terms: LossTerms = {}
        if takes_speech:
            terms |= {f"speech_{name}": term for name, term in speech_terms(batch, generator).items()}
        if takes_mixtures:
            kept = [name for name in get_args(SpeechPart) if name not in learning.from_mixtures]
            with _no_gradients(getattr(model, name) for name in kept):
                terms |= joint_terms(batch, generator)
        return terms

    speech = Stage(
        "speech",
        0,
        0,
        training.speech_steps,
        tuple(model.speech_parts()),
        speech_terms,
        partial(total, weights=speech_weights),
        "speech",
    )
    joint = Stage(
        "joint",
        1,
        training.speech_steps,
        training.joint_steps,
        tuple(model.mixture_parts()),
        joint_terms,
        partial(total, weights=joint_weights),
    )
    if learning is not None:
        all_weights = joint_weights | {f"speech_{name}": weight for name, weight in speech_weights.items()}
        joint = replace(
            joint,
            trained=(*joint.trained, *speech.trained),
            terms=all_terms,
            loss=partial(total, weights=all_weights),
            purpose="joint learning",
            slowed=speech.trained,
            slow_rate=learning.rate,
        )
    return speech, joint


@contextmanager
def _no_gradients(parts: Iterable[nn.Module]) -> Iterator[None]:
    """What is computed meanwhile gives the parameters of these networks no gradients; they pass through them."""
    stopped = [parameter for part in parts for parameter in part.parameters() if parameter.requires_grad]
    for parameter in stopped:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in stopped:
            parameter.requires_grad_(True)
