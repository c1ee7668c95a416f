"""A training from two folders to one exported file."""

import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger

from sottovoce.atomic import replacing
from sottovoce.baselines import build_network
from sottovoce.baselines.network import Baseline
from sottovoce.config import DataSettings, SystemSettings, dump_settings, load_settings
from sottovoce.data.harvest import NoiseStretch
from sottovoce.data.manifest import Manifest
from sottovoce.data.paired import PairedClips
from sottovoce.data.unpaired import UnpairedClips
from sottovoce.errors import DataError
from sottovoce.models.checkpoint import save_checkpoint
from sottovoce.models.export import export_model
from sottovoce.models.joint import JointAutoencoder
from sottovoce.training.log import Progress, RunLog, plot_run
from sottovoce.training.module import (
    BaselineModule,
    Clips,
    JointModule,
    Stage,
    TrainingModule,
    loader,
    stage_steps,
    stages,
)
from sottovoce.training.preparation import Preparation, TrainingData, prepare

CHECKPOINT = "checkpoint.safetensors"
"""Name of the trained networks in a run's folder."""

_CHECK_CLIPS = 8
# More would hold gigabytes of batches that wait, for a GPU that no longer does.
_MOST_WORKERS = 16
# What Lightning warns of and is meant: its own old-fashioned call, a loader of few workers, frozen networks, and a
# resumed stage, whose loader begins at the step of the checkpoint.
_NOT_FOR_THE_USER = (
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    r"The 'train_dataloader' does not have many workers",
    r"Checkpoint directory .* exists and is not empty",
    r"Found \d+ module\(s\) in eval mode at the start of training",
    r"You're resuming from a checkpoint that ended before the epoch ended",
)


@dataclass(frozen=True)
class Provenance:
    """What a model file says of its origin.

    Attributes:
        licence: Licence of the weights.
        training_data: The corpora, one sentence each.
        command: The command that trained it.
    """

    licence: str
    training_data: tuple[str, ...]
    command: str


def train(
    speech: Path,
    mixtures: Path,
    out: Path,
    settings: SystemSettings,
    provenance: Provenance,
    *,
    clean: Path | None = None,
    on_preparation: Preparation | None = None,
    on_progress: Progress | None = None,
) -> Path:
    """Train a system on unpaired folders and export it; an interrupted run in `out` is resumed.

    A baseline is trained in the same way, but not exported.

    Args:
        speech: Folder of clean speech of anyone.
        mixtures: Folder of noisy recordings.
        out: The run's folder: settings, manifests, curves, checkpoints, `checkpoint.safetensors`, `model.onnx`.
        settings: All settings.
        provenance: What the model file shall say of its origin.
        clean: Folder of the mixtures' clean versions, for a supervised system to compare with, alone.
        on_preparation: Called with the name of a task, files done and files in all.
        on_progress: Called with stage, steps done, steps in all and the running loss.

    Returns:
        Path of the exported model; of a baseline, of its checkpoint.

    Raises:
        DataError: A folder has nothing usable, or `out` holds a run with other settings or on other recordings.
        ConfigError: Clean versions are given to settings without pairs, or not given to settings with them.
    """
    _record(out, settings)
    data = prepare(speech, mixtures, out, settings, on_preparation, clean=clean)
    model = fit(data, out, settings, on_progress=on_progress)
    plot_run(out)
    if not isinstance(model, JointAutoencoder):
        return out / CHECKPOINT
    path = out / "model.onnx"
    export_with(path, model, settings, provenance)
    return path


def export_with(path: Path, model: JointAutoencoder, settings: SystemSettings, provenance: Provenance) -> None:
    """Export a system that says where it comes from.

    Args:
        path: File to write, `.onnx`.
        model: A trained system.
        settings: Its settings.
        provenance: What the file shall say of its origin.
    """
    export_model(
        path,
        model,
        settings,
        licence=provenance.licence,
        training_data=provenance.training_data,
        command=provenance.command,
    )


def fit(
    data: TrainingData,
    out: Path,
    settings: SystemSettings,
    *,
    start: JointAutoencoder | None = None,
    on_progress: Progress | None = None,
) -> JointAutoencoder | Baseline:
    """Train all stages and write the checkpoint; an interrupted run in `out` is resumed.

    Args:
        data: What the training draws from.
        out: The run's folder.
        settings: All settings.
        start: A trained system to go on from, which becomes the new one: the joint stage alone is trained, and whoever
            asked for it decides whether its checkpoint is written.
        on_progress: Called with stage, steps done, steps in all and the running loss.

    Returns:
        The trained system in evaluation mode.

    Raises:
        DataError: `out` holds a run with other settings.
    """
    _record(out, settings)
    run = _Run(out, settings, data, on_progress)
    model: JointAutoencoder | Baseline
    if start is not None:
        model = start
    else:
        with torch.random.fork_rng(devices=[]):  # torch draws initial weights from its global generator alone
            torch.manual_seed(settings.training.seed)
            model = build_network(settings)
    for stage in stages(settings) if start is None else stages(settings)[-1:]:
        run.train(stage, model)
    model.eval()
    if start is None:
        save_checkpoint(out / CHECKPOINT, model, settings)
    return model


def _record(out: Path, settings: SystemSettings) -> None:
    """Keep the settings in the run's folder, or see that they are those of the run in it."""
    out.mkdir(parents=True, exist_ok=True)
    recorded = out / "settings.yaml"
    if recorded.exists() and load_settings(recorded) != settings:
        raise DataError(f"found a run with other settings in {out}: give another folder, or settings {recorded}")
    with replacing(recorded) as temporary:
        temporary.write_text(dump_settings(settings), encoding="utf-8")


@dataclass(frozen=True)
class _Run:
    """One run in its folder."""

    folder: Path
    settings: SystemSettings
    data: TrainingData
    on_progress: Progress | None

    def train(self, stage: Stage, model: JointAutoencoder | Baseline) -> None:
        """Run or resume one stage; `model` holds its result afterwards."""
        folder = self.folder / "stages" / stage
        finished, steps = folder / "finished.pt", stage_steps(self.settings, stage)
        if finished.exists():
            model.load_state_dict(torch.load(finished, weights_only=True))
            return
        training = self.settings.training
        last = newest_checkpoint(folder)
        clips = self._training_clips()
        module: TrainingModule = (
            JointModule(model, self.settings, stage)
            if isinstance(model, JointAutoencoder)
            else BaselineModule(model, self.settings, stage)
        )
        trainer = L.Trainer(
            accelerator="auto",
            devices=1,
            max_steps=steps,
            max_epochs=-1,
            gradient_clip_val=training.optimiser.gradient_clip,
            logger=TensorBoardLogger(self.folder / "tensorboard", name=None, version=stage),
            callbacks=[self._checkpoints(folder), self._log(stage)],
            log_every_n_steps=max(1, training.check_every // 10),
            enable_progress_bar=False,
            enable_model_summary=False,
            deterministic=True,
            use_distributed_sampler=False,
        )
        # Deterministic algorithms, but not the filling of fresh memory that comes with them: every value is written.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        with warnings.catch_warnings():
            for message in _NOT_FOR_THE_USER:
                warnings.filterwarnings("ignore", message)
            trainer.fit(
                module,
                loader(clips, stage, 0 if last is None else _step_of(last), steps, _workers(training.data.workers)),
                ckpt_path=last,
                weights_only=True,
            )
        model.cpu()
        with replacing(finished) as temporary:
            torch.save(model.state_dict(), temporary)
        for checkpoint in folder.glob("*.ckpt"):
            checkpoint.unlink()

    def _training_clips(self) -> Clips:
        data, training = self.data, self.settings.training
        drawn = training.data.model_copy(update={"pseudo_clips": 0}) if data.pairs else training.data
        clips = self._clips(data.speech, data.mixtures, data.stretches, settings=drawn, seed=training.seed)
        if not data.pairs:
            return clips
        return PairedClips(
            clips,
            data.pairs,
            settings=training.data,
            sample_rate=self.settings.frontend.sample_rate,
            seed=training.seed,
        )

    def _clips(
        self,
        speech: Manifest,
        mixtures: Manifest,
        stretches: tuple[NoiseStretch, ...],
        *,
        settings: DataSettings,
        seed: int,
    ) -> UnpairedClips:
        return UnpairedClips(
            speech,
            mixtures,
            stretches,
            rooms=self.data.rooms,
            settings=settings,
            sample_rate=self.settings.frontend.sample_rate,
            seed=seed,
        )

    def _checkpoints(self, folder: Path) -> ModelCheckpoint:
        # The newest is written before the one before it is deleted: one of them is always whole.
        every = self.settings.training.check_every
        return ModelCheckpoint(
            folder, filename="{step}", monitor="step", mode="max", save_top_k=1, every_n_train_steps=every
        )

    def _log(self, stage: Stage) -> RunLog:
        """The checks hear held-back recordings, drawn once with a seed of their own."""
        training = self.settings.training
        counts = dict.fromkeys(("speech_clips", "mixture_clips", "noise_clips"), _CHECK_CLIPS)
        heard = training.data.model_copy(update={**counts, "pseudo_clips": 0})
        data = self.data
        clips = self._clips(
            data.held_back_speech,
            data.held_back_mixtures,
            data.held_back_stretches,
            settings=heard,
            seed=training.seed + 1,
        )
        batch = clips.batch(0, "check")
        return RunLog(
            self.folder,
            stage,
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
    return min(_MOST_WORKERS, max(1, (os.cpu_count() or 1) - 1)) if torch.cuda.is_available() else 1


def newest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint of the latest step in a folder, or None."""
    checkpoints = sorted(folder.glob("step=*.ckpt"), key=_step_of)
    return checkpoints[-1] if checkpoints else None


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.stem.split("=")[1].split("-")[0])
