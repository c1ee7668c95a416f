"""Compared systems are trained the same way: reproducible, resumable, and pairs only for those that ask for them."""

import math

import numpy as np
import pytest

pytest.importorskip("lightning")

from tests.data.synthetic import write
from tests.training.conftest import make_recordings, write_speakers

from sottovoce.errors import ConfigError, ModelError
from sottovoce.models.checkpoint import load_checkpoint, read_checkpoint
from sottovoce.training import run as run_module
from sottovoce.training.log import read_table
from sspd2023 import training
from sspd2023.settings import ExperimentSettings
from sspd2023.training import kept_networks, load_system, train_system

from .systems import TINY

PVQ = {"kind": "pvq", "channels": 4, "width": 8, "heads": 2, "blocks": 1, "codes": 8}
BASELINES = {
    "irm": {"kind": "masking", "target": "irm"},
    "pvq": PVQ,
    "cf": {"kind": "cf", "width": 8, "layers": 1, "features": PVQ},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Clean speech, and mixtures with their hidden clean versions."""
    folder = tmp_path_factory.mktemp("compared")
    write_speakers(folder / "speech", ("anna", "bert", "carl"), 1)
    return folder / "speech", make_recordings(folder, 2)


def settings(kind):
    change = {"baseline": BASELINES[kind], "pairs": "as recorded" if kind == "irm" else None}
    return ExperimentSettings.model_validate(TINY | change | {"training": TINY["training"] | {"check_every": 3}})


def run(folders, out, kind):
    speech, made = folders
    return train_system(speech, made / "noisy", out, settings(kind), clean=made / "clean" if kind == "irm" else None)


@pytest.mark.parametrize("kind", BASELINES)
def test_a_baseline_is_trained_and_kept(folders, tmp_path, kind):
    path = run(folders, tmp_path / "run", kind)
    tensors, found = read_checkpoint(path, ExperimentSettings)
    assert found.baseline.kind == settings(kind).baseline.kind
    assert all(np.isfinite(value.float().numpy()).all() for value in tensors.values())
    stages = [row["stage"] for row in read_table(tmp_path / "run" / "losses.csv")]
    assert list(dict.fromkeys(stages)) == (["training"] if kind == "irm" else ["pretraining", "training"])
    assert not (tmp_path / "run" / "model.onnx").exists()
    with pytest.raises(ModelError, match="a system to compare with"):
        load_checkpoint(path)


@pytest.mark.parametrize("kind", BASELINES)
def test_an_interrupted_training_ends_like_an_unbroken_one(folders, tmp_path, monkeypatch, kind):
    unbroken = run(folders, tmp_path / "unbroken", kind).read_bytes()
    real = run_module.RunLog.on_train_batch_end

    def stop(self, trainer, *rest):
        real(self, trainer, *rest)
        if self._stage.name == "training" and trainer.global_step == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_module.RunLog, "on_train_batch_end", stop)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            run(folders, tmp_path / "broken", kind)
    assert run(folders, tmp_path / "broken", kind).read_bytes() == unbroken
    kept = [kept_networks(tmp_path / name) for name in ("unbroken", "broken")]
    assert [path.read_bytes() for path in kept[0].values()] == [path.read_bytes() for path in kept[1].values()]


def test_networks_are_kept_on_the_way(folders, tmp_path):
    finished = run(folders, tmp_path / "run", "pvq")
    last = TINY["training"]["joint_steps"]
    kept = kept_networks(tmp_path / "run")
    assert list(kept) == sorted({round(last / parts) for parts in (2, 4, 8, 16)} - {0, last})
    assert len({path.read_bytes() for path in (*kept.values(), finished)}) == len(kept) + 1
    network, found = load_system(kept[round(last / 2)])
    assert found == settings("pvq")
    assert not network.training


def test_a_training_that_diverges_ends(folders, tmp_path, monkeypatch):
    """Its row then says so: a benchmark with many trainings is not stopped by one of them."""
    monkeypatch.setattr(training, "_sum", lambda terms: math.nan * sum(terms.values()))
    tensors, _ = read_checkpoint(run(folders, tmp_path / "run", "pvq"), ExperimentSettings)
    assert any(value.isnan().any() for value in tensors.values())


def test_an_unpaired_system_must_not_be_given_pairs(folders, tmp_path):
    speech, made = folders
    with pytest.raises(ConfigError, match="must not see clean versions"):
        train_system(speech, made / "noisy", tmp_path / "run", settings("pvq"), clean=made / "clean")


def test_a_supervised_system_asks_for_pairs(folders, tmp_path):
    speech, made = folders
    with pytest.raises(ConfigError, match="learns from pairs"):
        train_system(speech, made / "noisy", tmp_path / "run", settings("irm"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["pvq", "cf"])
def test_unpaired_baselines_never_open_a_clean_version(folders, tmp_path, kind):
    """Hidden clean versions that are replaced by noise change nothing."""
    first = run(folders, tmp_path / "first", kind).read_bytes()
    kept = {path: path.read_bytes() for path in (folders[1] / "clean").iterdir()}
    try:
        for path in kept:
            path.unlink()
            write(path, np.random.default_rng(0).standard_normal(12 * 16000).astype(np.float32) * 0.1)
        second = run(folders, tmp_path / "second", kind).read_bytes()
    finally:
        for path, content in kept.items():
            path.write_bytes(content)
    assert first == second


def test_pairs_that_are_asked_for_have_an_effect(folders, tmp_path):
    speech, made = folders
    first = run(folders, tmp_path / "first", "irm").read_bytes()
    # The mixtures as their own clean versions: another target, so other weights.
    second = train_system(speech, made / "noisy", tmp_path / "second", settings("irm"), clean=made / "noisy")
    assert first != second.read_bytes()
