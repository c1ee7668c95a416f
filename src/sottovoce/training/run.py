"""A training from two folders, or what stands in their place, to one exported file."""

import hashlib
import os
import signal
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from sottovoce.atomic import replacing
from sottovoce.config import RunSettings, SystemSettings, TrainingSettings, dump_settings, load_settings_as
from sottovoce.data.corpora.skipped import Skipped
from sottovoce.data.corpora.stream import Window
from sottovoce.data.sampling import StreamedClips, UnpairedClips
from sottovoce.errors import ConfigError, DataError
from sottovoce.interruption import Deferred, Interruption
from sottovoce.models.checkpoint import load_checkpoint, save_checkpoint
from sottovoce.models.export import Provenance, export_model
from sottovoce.models.joint import JointAutoencoder
from sottovoce.progress import Progress, named
from sottovoce.training.checkpoints import Checkpoints
from sottovoce.training.log import RunLog, SkippedLog, plot_run
from sottovoce.training.module import Clips, TrainingModule, loader
from sottovoce.training.preparation import TrainingData, prepare
from sottovoce.training.processes import rank, together
from sottovoce.training.saved import FINISHED, newest_checkpoint, step_of
from sottovoce.training.stages import Stage, joint_stages
from sottovoce.training.streaming import SKIPPED

CHECKPOINT = "checkpoint.safetensors"
"""Name of the trained networks in a run's folder."""

_CHECK_CLIPS = 8
# More would hold gigabytes of batches that wait, for a GPU that no longer does.
_MAX_WORKERS = 16
# What Lightning warns of and is meant: its own old-fashioned call, a loader of few workers, frozen networks, and a
# resumed stage, whose loader begins at the step of the checkpoint.
_NOT_FOR_THE_USER = (
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    r"The 'train_dataloader' does not have many workers",
    r"Found \d+ module\(s\) in eval mode at the start of training",
    r"You're resuming from a checkpoint that ended before the epoch ended",
)
# How long processes wait for each other. That one has ended is noticed at once; looking at recordings may take hours.
_PATIENCE = timedelta(days=7)


def train(
    speech: Path | str,
    mixtures: Path | str,
    out: Path,
    settings: SystemSettings,
    provenance: Provenance,
    *,
    start: Path | None = None,
    on_progress: Progress | None = None,
) -> Path:
    """Train a joint system on unpaired folders and export it; an interrupted run in `out` is resumed.

    Args:
        speech: Folder of clean speech of anyone; or a manifest, shards, or an address of these or of recordings.
        mixtures: Folder of noisy recordings, or likewise.
        out: The run's folder: settings, manifests, curves, checkpoints, `checkpoint.safetensors`, `model.onnx`.
        settings: All settings.
        provenance: What the model file shall say of its origin.
        start: Training checkpoint to go on from, by the joint stage alone; None to train both stages from the start.
        on_progress: Called with every task's progress.

    Returns:
        Path of the exported model.

    Raises:
        DataError: A folder has nothing usable, or `out` holds a run with other settings, on other recordings or from
            another start.
        ConfigError: The settings describe other networks than those to start from, or want more GPUs than there are.
        ProcessError: Another process of the training has ended.
        ModelError: There is no usable checkpoint to start from.
    """
    _require_devices(settings.training.processes)
    model = untrained(settings) if start is None else _continued(start, settings, out)
    _record(out, settings)
    keep_start(out, start)
    data = prepare(speech, mixtures, out, settings, on_progress)
    stages = joint_stages(model, settings)
    processes, wanted = settings.training.processes, stages if start is None else stages[-1:]
    fit(model, wanted, data, out, settings, processes=processes, on_progress=on_progress)
    if rank(processes):
        return out / "model.onnx"  # of which the first process sees to the rest
    save_checkpoint(out / CHECKPOINT, model, settings)
    plot_run(out)
    path = out / "model.onnx"
    with named("exporting the model", on_progress):
        export_model(path, model, settings, provenance)
    return path


def _require_devices(processes: int) -> None:
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else processes
    if processes > gpus:
        raise ConfigError(f"found training.processes: {processes} and {gpus} GPUs, expected a GPU for each process")


def require_apart(checkpoint: Path, out: Path) -> None:
    """Refuse to write a run into the folder of the checkpoint that it starts from.

    Args:
        checkpoint: Training checkpoint.
        out: The run's folder.

    Raises:
        DataError: The checkpoint lies in that folder.
    """
    if checkpoint.resolve().is_relative_to(out.resolve()):
        raise DataError(f"found the model to start from, {checkpoint}, in {out}: give another folder for the new one")


def keep_start(out: Path, checkpoint: Path | None) -> None:
    """Note what a training starts from, or see that it is what an interrupted one in the folder started from.

    Args:
        out: The run's folder, which exists.
        checkpoint: Training checkpoint that the run starts from; None for one that starts from nothing.

    Raises:
        DataError: The run in `out` started from something else.
    """
    noted = out / "start.sha256"
    digest = None if checkpoint is None else hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    if noted.exists() and noted.read_text(encoding="utf-8") != digest:
        raise DataError(f"found a run that started from another model in {out}: give another folder")
    if digest is not None:
        with replacing(noted) as temporary:
            temporary.write_text(digest, encoding="utf-8")


def _continued(start: Path, settings: SystemSettings, out: Path) -> JointAutoencoder:
    """A trained system to go on from; one without a choice of the room gets it where the settings have it."""
    require_apart(start, out)
    model, before = load_checkpoint(start)
    without_choice = settings.model.model_copy(update={"room_choice": False})
    accepted = {"frontend": (settings.frontend,), "model": (settings.model, without_choice)}
    for part, those in accepted.items():
        if getattr(before, part) not in those:
            raise ConfigError(
                f"found settings whose {part} is not that of {start}, expected the same networks: start from a model "
                "of these settings, or train from the beginning"
            )
    if before.model == settings.model:
        return model
    # What the model lacks are weights that are 0 in an untrained network: the choice makes no difference yet.
    with_choice = untrained(settings)
    with_choice.load_state_dict(with_choice.state_dict() | model.state_dict())
    return with_choice


def untrained(settings: SystemSettings) -> JointAutoencoder:
    """A joint system with the initial weights of the settings' seed.

    Args:
        settings: All settings.

    Returns:
        The system.
    """
    with torch.random.fork_rng(devices=[]):  # torch draws initial weights from its global generator alone
        torch.manual_seed(settings.training.seed)
        return JointAutoencoder(settings.frontend, settings.model)


def fit(
    network: nn.Module,
    stages: Sequence[Stage],
    data: TrainingData,
    out: Path,
    settings: RunSettings,
    *,
    clips: Clips | None = None,
    callbacks: Sequence[L.Callback] = (),
    processes: int = 1,
    on_progress: Progress | None = None,
) -> None:
    """Train networks stage by stage; an interrupted run in `out` is resumed.

    Args:
        network: All networks of a system; afterwards trained, and in evaluation mode.
        stages: What is trained, in order.
        data: What the training draws from, and what its checks are made on.
        out: The run's folder.
        settings: All settings.
        clips: Where batches come from; by default they are drawn from the data.
        callbacks: Called in every stage, after each step before its state is saved.
        processes: Processes that train together: the others run the same command, up to here and on.
        on_progress: Called with every task's progress.

    Raises:
        DataError: `out` holds a run with other settings.
    """
    _record(out, settings)
    batches = training_clips(data, settings) if clips is None else clips
    run = _Run(out, settings, data, batches, tuple(callbacks), processes, on_progress)
    for stage in stages:
        run.train(stage, network)
    network.eval()


def training_clips(data: TrainingData, settings: RunSettings) -> Clips:
    """Where the batches of an unpaired training come from.

    Args:
        data: What they are drawn from.
        settings: All settings.

    Returns:
        The batches.
    """
    if data.is_streamed:
        return StreamedClips(
            data.speech_stream or Window(data.speech),
            data.mixture_stream or Window(data.mixtures, data.stretches),
            rooms=data.rooms,
            settings=settings.training.data,
            sample_rate=settings.frontend.sample_rate,
            seed=settings.training.seed,
        )
    return UnpairedClips(
        data.speech,
        data.mixtures,
        data.stretches,
        rooms=data.rooms,
        settings=settings.training.data,
        sample_rate=settings.frontend.sample_rate,
        seed=settings.training.seed,
    )


def _record(out: Path, settings: RunSettings) -> None:
    """Keep the settings in the run's folder, or see that they are those of the run in it."""
    out.mkdir(parents=True, exist_ok=True)
    recorded = out / "settings.yaml"
    if recorded.exists() and load_settings_as(type(settings), recorded) != settings:
        raise DataError(f"found a run with other settings in {out}: give another folder, or settings {recorded}")
    with replacing(recorded) as temporary:
        temporary.write_text(dump_settings(settings), encoding="utf-8")


def train_stage(
    network: nn.Module,
    stage: Stage,
    training: TrainingSettings,
    out: Path,
    batches: Callable[[range], Iterable[Any]],
    *,
    callbacks: Callable[[], Sequence[L.Callback]] = tuple,
    processes: int = 1,
) -> None:
    """Train one stage, or resume it in `out`; batches of any kind that its terms understand.

    Args:
        network: All networks of a system; afterwards it holds what the stage has learned.
        stage: The stage.
        training: Seed, optimiser, batches of a step, steps between checkpoints.
        out: The run's folder.
        batches: Gives the batches of these numbers, in order.
        callbacks: Makes what is called after each step, before its state is saved; not for a stage that is finished.
        processes: Processes that train together, of which this is one.
    """
    if not stage.steps:
        return
    folder = out / "stages" / stage.name
    finished = folder / FINISHED
    if finished.exists():
        network.load_state_dict(torch.load(finished, weights_only=True))
        return
    last = newest_checkpoint(folder)
    first = 0 if last is None else step_of(last)
    number, a_step = rank(processes), processes * training.accumulate
    stop = Deferred()
    trainer = L.Trainer(
        accelerator="auto",
        devices=processes,
        # Where losses take turns, some networks have no gradients in a step.
        strategy="auto" if processes == 1 else DDPStrategy(find_unused_parameters=True, timeout=_PATIENCE),
        accumulate_grad_batches=training.accumulate,
        max_steps=stage.steps,
        max_epochs=-1,
        gradient_clip_val=training.optimiser.gradient_clip,
        logger=TensorBoardLogger(out / "tensorboard", name=None, version=stage.name),
        callbacks=[*callbacks(), Checkpoints(folder, training.check_every, stop)],
        log_every_n_steps=max(1, training.check_every // 10),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        deterministic=True,
        use_distributed_sampler=False,
    )
    # Deterministic algorithms, but not the filling of fresh memory that comes with them: every value is written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    with stop, together(processes), warnings.catch_warnings():
        for message in _NOT_FOR_THE_USER:
            warnings.filterwarnings("ignore", message)
        trainer.fit(
            TrainingModule(network, stage, training, number, processes),
            batches(range(first * a_step + number, stage.steps * a_step, processes)),
            ckpt_path=last,
            weights_only=True,
        )
    if trainer.global_step < stage.steps:
        raise Interruption(signal.SIGTERM)  # it came to another process
    network.cpu()
    if number:
        return
    with replacing(finished) as temporary:
        torch.save(network.state_dict(), temporary)
    for checkpoint in folder.glob("*.ckpt"):
        checkpoint.unlink()


@dataclass(frozen=True)
class _Run:
    """One run in its folder."""

    folder: Path
    settings: RunSettings
    data: TrainingData
    clips: Clips
    callbacks: tuple[L.Callback, ...]
    processes: int
    on_progress: Progress | None

    def train(self, stage: Stage, network: nn.Module) -> None:
        """Run or resume one stage; `network` holds its result afterwards."""
        train_stage(
            network,
            stage,
            self.settings.training,
            self.folder,
            lambda numbers: loader(self.clips, stage.purpose, numbers, self._workers()),
            callbacks=lambda: self._callbacks(stage),
            processes=self.processes,
        )

    def _callbacks(self, stage: Stage) -> list[L.Callback]:
        every = self.settings.training.check_every
        skipped = [SkippedLog(Skipped(self.folder / SKIPPED), every)] if self.data.is_streamed else []
        return [self._log(stage), *self.callbacks, *skipped]

    def _workers(self) -> int:
        """Processes that draw; of a stream, so many that none of them reads what another one does."""
        settings = self.settings.training.data
        workers = _workers(settings.workers)
        if not self.data.is_streamed:
            return workers
        return max((count for count in range(1, workers + 1) if settings.stream.readers % count == 0), default=0)

    def _log(self, stage: Stage) -> RunLog:
        """The checks are made on held-out recordings, drawn once with a seed of their own."""
        training = self.settings.training
        counts = dict.fromkeys(("speech_clips", "mixture_clips", "noise_clips"), _CHECK_CLIPS)
        recorded = training.data.model_copy(update={**counts, "simulated_clips": 0})
        data = self.data
        clips = UnpairedClips(
            data.held_back_speech,
            data.held_back_mixtures,
            data.held_back_stretches,
            rooms=data.rooms,
            settings=recorded,
            sample_rate=self.settings.frontend.sample_rate,
            seed=training.seed + 1,
        )
        batch = clips.batch(0, "check")
        return RunLog(
            self.folder,
            stage,
            sample_rate=self.settings.frontend.sample_rate,
            speech=torch.from_numpy(batch.speech),
            mixtures=torch.from_numpy(batch.mixtures),
            noise=torch.from_numpy(batch.noise),
            every=training.check_every,
            on_progress=self.on_progress,
        )


def _workers(wanted: int | None) -> int:
    """Processes that draw batches: as many as wanted, or enough that a GPU seldom waits."""
    if wanted is not None:
        return wanted
    return min(_MAX_WORKERS, max(1, (os.cpu_count() or 1) - 1)) if torch.cuda.is_available() else 1
