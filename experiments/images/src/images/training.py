"""Which systems are trained on what, and how: the method's two stages."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch

from images.batches import PairedPatches, UnpairedPatches
from images.networks import ImageSystem
from images.noise import Noise
from images.objective import Batch, Weights, clean_terms, joint_terms
from images.slices import Images, Split
from sottovoce.config import OptimiserSettings, TrainingSettings
from sottovoce.objectives.joint import total
from sottovoce.progress import TaskProgress
from sottovoce.training.run import train_stage
from sottovoce.training.stages import Stage

CHECK_EVERY = 100
"""Steps between checkpoints."""

PUBLISHED, JOINT, SIMULATED, PAIRED = "published", "joint", "simulated", "paired"
_WITHOUT_MIXTURES = Weights(mixture=0, cycle=0, latent_consistency=0, prior=0, silence=0)


@dataclass(frozen=True)
class System:
    """A trained system of the tables.

    Attributes:
        label: What it is called.
        weights: Of the losses.
        published: Whether it is the published system alone: the image is what D_S decodes, and D_M has no noise code.
        paired: Whether it learns from pairs, which nobody has.
    """

    label: str
    weights: Weights = field(default_factory=Weights)
    published: bool = False
    paired: bool = False

    def network(self, seed: int) -> ImageSystem:
        """The system with the initial weights of a seed."""
        with torch.random.fork_rng(devices=[]):  # torch draws initial weights from its global generator alone
            torch.manual_seed(seed)
            network = ImageSystem(refines=False, noise_code=0) if self.published else ImageSystem()
        for parameter in network.parameters():
            if parameter.ndim == 4:  # convolutions are a fifth faster on a CPU
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        return network


SYSTEMS: Mapping[str, System] = {
    PUBLISHED: System(
        "joint, as published",
        # Weights of the predecessor's code.
        Weights(
            cycle=10,
            latent_consistency=1,
            silence=1e-3,
            simulated_latent=0,
            simulated_decoded=0,
            simulated_image=0,
            simulated_snr=0,
        ),
        published=True,
    ),
    SIMULATED: System("simulated pairs alone", _WITHOUT_MIXTURES),
    JOINT: System("**joint and simulated pairs**"),
    PAIRED: System("bound: real pairs", _WITHOUT_MIXTURES, paired=True),
}
"""Trained systems, in the order of the tables."""


@dataclass(frozen=True)
class Material:
    """What there is to learn from.

    Attributes:
        clean: Clean slices `(slices, rows, columns)`, as the instrument would see them.
        measured: Noisy slices of other slabs, `(slices, rows, columns)`, in units.
        truth: The noisy slices without noise, for the bound alone.
        levels: The level of each noisy slice.
    """

    clean: Images
    measured: Images
    truth: Images
    levels: tuple[float, ...]


def material(volume: Images, parts: Split, noise: Noise) -> Material:
    """Take the slices to learn from, and measure the noisy ones once.

    Args:
        volume: `(slices, rows, columns)`, from 0 to 1.
        parts: Which slices serve for what.
        noise: The instrument; its levels are dealt out in turn.

    Returns:
        What there is to learn from.
    """
    seen = noise.clean(volume)
    levels = tuple(noise.levels[number % len(noise.levels)] for number in range(len(parts.noisy)))
    truth = seen[list(parts.noisy)]
    measured = [
        noise.measure(image, level, np.random.default_rng([position, 1]))
        for image, level, position in zip(truth, levels, parts.noisy, strict=True)
    ]
    return Material(seen[list(parts.clean)], np.stack(measured), truth, levels)


def patches(system: System, learned_from: Material, noise: Noise, seed: int) -> UnpairedPatches:
    """The batches of a system; `truth` reaches those of the bound alone.

    Args:
        system: The system.
        learned_from: What there is to learn from.
        noise: The instrument.
        seed: Seed of all draws.

    Returns:
        The batches.
    """
    unpaired = learned_from.clean, learned_from.measured
    if system.paired:
        answers = list(zip(learned_from.truth, learned_from.levels, strict=True))
        return PairedPatches(*unpaired, noise, seed, answers=answers)
    return UnpairedPatches(*unpaired, noise, seed)


def stages(network: ImageSystem, weights: Weights, steps: tuple[int, int]) -> tuple[Stage, Stage]:
    """What is trained: E_S, G and D_S on clean slices; then all parts, on clean and noisy slices in each step.

    Args:
        network: The system.
        weights: Of the losses.
        steps: Steps of each stage.

    Returns:
        The stages.
    """

    def of_clean(batch: Batch, generator: torch.Generator) -> dict[str, torch.Tensor]:
        return clean_terms(network, batch.clean, generator)

    def of_all(batch: Batch, generator: torch.Generator) -> dict[str, torch.Tensor]:
        return joint_terms(network, batch, weights, generator)

    loss = partial(total, weights=weights.model_dump())
    return (
        Stage("clean", 0, 0, steps[0], tuple(network.clean_parts()), of_clean, loss),
        Stage("joint", 1, steps[0], steps[1], (network,), of_all, loss),
    )


def train(
    system: System,
    learned_from: Material,
    noise: Noise,
    out: Path,
    *,
    seed: int,
    steps: tuple[int, int],
    on_progress: TaskProgress | None = None,
) -> ImageSystem:
    """Train a system; an interrupted training in `out` goes on, to the same weights.

    Args:
        system: The system.
        learned_from: What there is to learn from.
        noise: The instrument.
        out: Folder of this training.
        seed: Of initial weights, batches and latent noise.
        steps: Steps of each stage.
        on_progress: Called for every step.

    Returns:
        The system in evaluation mode.
    """
    network = system.network(seed)
    drawn = patches(system, learned_from, noise, seed)
    optimiser = OptimiserSettings(learning_rate=3e-3, final_learning_rate=3e-5, warmup_steps=30, gradient_clip=1.0)
    training = TrainingSettings(seed=seed, check_every=CHECK_EVERY, optimiser=optimiser)
    for stage in stages(network, system.weights, steps):

        def batches(numbers: range, first: int = stage.first_step) -> Iterator[Batch]:
            for step in numbers:
                if on_progress is not None:
                    on_progress(first + step, sum(steps))
                yield drawn.batch(first + step)

        train_stage(network, stage, training, out, batches)
    return network.eval()
