"""How the compared systems are trained: the joint system's stages or a baseline's, on unpaired batches or on pairs."""

from pathlib import Path

import torch
from torch import Tensor

from sottovoce.errors import ConfigError
from sottovoce.models.checkpoint import read_checkpoint, save_checkpoint
from sottovoce.models.joint import JointSystem
from sottovoce.objectives.joint import LossTerms
from sottovoce.progress import Progress
from sottovoce.training.checkpoints import Snapshots
from sottovoce.training.preparation import prepare
from sottovoce.training.run import CHECKPOINT, fit, training_clips
from sottovoce.training.saved import step_of
from sottovoce.training.stages import Stage, joint_stages
from sspd2023.baselines import build_network
from sspd2023.baselines.network import Baseline
from sspd2023.paired import PairedClips, match_pairs
from sspd2023.settings import ExperimentSettings, MaskingSettings

_KEPT = "kept"
_KEPT_SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2)


def kept_networks(out: Path) -> dict[int, Path]:
    """The networks that a training kept during its last stage.

    Args:
        out: The run's folder.

    Returns:
        Checkpoints by steps of the last stage, ascending.
    """
    by_steps = {step_of(path): path for path in (out / _KEPT).glob("step=*.safetensors")}
    return dict(sorted(by_steps.items()))


def stage_steps(settings: ExperimentSettings) -> dict[str, int]:
    """Stages of a training and their steps, in order.

    A network that learns masks from pairs has no pre-training, but the steps of both stages, for an equal budget.

    Args:
        settings: All settings.

    Returns:
        Steps by name of the stage.
    """
    training = settings.training
    if settings.baseline is None:
        return {"speech": training.speech_steps, "joint": training.joint_steps}
    if isinstance(settings.baseline, MaskingSettings):
        return {"training": training.speech_steps + training.joint_steps}
    return {"pretraining": training.speech_steps, "training": training.joint_steps}


def system_stages(network: JointSystem | Baseline, settings: ExperimentSettings) -> tuple[Stage, ...]:
    """What is trained, in order.

    Args:
        network: Networks that `build_network` gave.
        settings: Their settings.

    Returns:
        The stages; those of a baseline have batches of the joint stage, in its pre-training as well.
    """
    if isinstance(network, JointSystem):
        return joint_stages(network, settings)
    stages: list[Stage] = []
    for name, steps in stage_steps(settings).items():
        first = name == "pretraining"
        trained = network.pretrained_parts() if first else network.trained_parts()
        terms = network.pretraining_terms if first else network.terms
        stages.append(Stage(name, len(stages), sum(s.steps for s in stages), steps, tuple(trained), terms, _sum))
    return tuple(stages)


def _sum(terms: LossTerms) -> Tensor:
    """Terms of baselines have their weights already."""
    return torch.stack(list(terms.values())).sum()


def load_system(checkpoint: Path) -> tuple[JointSystem | Baseline, ExperimentSettings]:
    """Read what `train_system` wrote.

    Args:
        checkpoint: The checkpoint.

    Returns:
        The networks in evaluation mode, and their settings.

    Raises:
        ModelError: The file is missing, foreign or cut.
    """
    tensors, settings = read_checkpoint(checkpoint, ExperimentSettings)
    network = build_network(settings)
    network.load_state_dict(tensors)
    return network.eval(), settings


def train_system(
    speech: Path,
    mixtures: Path,
    out: Path,
    settings: ExperimentSettings,
    *,
    clean: Path | None = None,
    on_progress: Progress | None = None,
) -> Path:
    """Train a system and write its checkpoint; an interrupted run in `out` is resumed.

    Args:
        speech: Folder of clean speech of anyone.
        mixtures: Folder of noisy recordings.
        out: The run's folder.
        settings: All settings.
        clean: Folder of the mixtures' clean versions, for settings with `pairs` alone.
        on_progress: Called for every step.

    Returns:
        Path of the checkpoint.

    Raises:
        DataError: A folder has nothing usable, or `out` holds another run.
        ConfigError: Clean versions are given to settings without pairs, or not given to settings with them.
    """
    drawn = settings.training.data
    if settings.pairs is not None and clean is None:
        raise ConfigError(f"{settings.name} learns from pairs, expected the folder of the mixtures' clean versions")
    if clean is not None and settings.pairs is None:
        raise ConfigError(f"{settings.name} learns without pairs and must not see clean versions of its mixtures")
    out.mkdir(parents=True, exist_ok=True)
    data = prepare(speech, mixtures, out, settings, may_stream=False)
    clips = None
    if clean is not None:
        unpaired = settings.training.model_copy(update={"data": drawn.model_copy(update={"simulated_clips": 0})})
        clips = PairedClips(
            training_clips(data, settings.model_copy(update={"training": unpaired})),
            match_pairs(data.mixtures, mixtures, clean),
            settings=drawn,
            varied=settings.pairs == "varied",
            sample_rate=settings.frontend.sample_rate,
            seed=settings.training.seed,
        )
    with torch.random.fork_rng(devices=[]):  # torch draws initial weights from its global generator alone
        torch.manual_seed(settings.training.seed)
        network = build_network(settings)
    stages = system_stages(network, settings)
    last = stages[-1]
    kept = Snapshots(out / _KEPT, settings, last.name, {round(share * last.steps) for share in _KEPT_SHARES})
    fit(network, stages, data, out, settings, clips=clips, callbacks=[kept], on_progress=on_progress)
    save_checkpoint(out / CHECKPOINT, network, settings)
    return out / CHECKPOINT
