"""Whole runs of a tiny system: reproducible, resumable, unpaired, and clear about bad input."""

import logging
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile as sf
import torch
import yaml

from sottovoce import cli, interruption
from sottovoce.config import changed, dump_settings, load_settings
from sottovoce.data.corpora.manifest import Manifest
from sottovoce.engine.model import Model
from sottovoce.errors import ConfigError, DataError
from sottovoce.models.checkpoint import load_checkpoint
from sottovoce.models.export import Provenance
from sottovoce.models.joint import JointAutoencoder
from sottovoce.training import run as run_module
from sottovoce.training.log import read_table
from sottovoce.training.run import train, untrained
from sottovoce.training.saved import newest_checkpoint
from sottovoce.weights import CHECKPOINTS

from ..data.synthetic import RATE, tone, write
from .conftest import fitted, tiny, write_speakers

PROVENANCE = Provenance("Apache-2.0", ("made up",), "none")


def run(speech, mixtures, out, settings=None, **callbacks):
    return train(speech, mixtures, out, settings or tiny(), PROVENANCE, **callbacks)


def weights(out):
    return (out / "checkpoint.safetensors").read_bytes()


@pytest.fixture(scope="module")
def finished(folders, tmp_path_factory):
    """A finished run, and what it read."""
    speech, made = folders
    out = tmp_path_factory.mktemp("runs") / "first"
    opened, seen = set(), []
    original = sf.SoundFile.__init__

    def spy(self, file, *arguments, **options):
        opened.add(str(file) if isinstance(file, str | os.PathLike) else file.name)
        original(self, file, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sf.SoundFile, "__init__", spy)
        run(
            speech,
            made / "noisy",
            out,
            on_progress=lambda *report: seen.append(report),
        )
    return out, opened, seen


def test_a_run_folder_holds_what_is_promised(finished):
    out, _, _ = finished
    assert {path.name for path in out.iterdir()} == {
        "model.onnx",
        "settings.yaml",
        "speech.jsonl",
        "mixtures.jsonl",
        "losses.csv",
        "losses.png",
        "health.csv",
        "health.png",
        "tensorboard",
        "checkpoint.safetensors",
        "stages",
    }
    assert load_settings(out / "settings.yaml") == tiny()
    metadata = Model.load(out / "model.onnx").metadata
    assert (metadata.licence, metadata.training_data, metadata.command) == ("Apache-2.0", ("made up",), "none")
    model, settings = load_checkpoint(out / "checkpoint.safetensors")
    assert settings == tiny()
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    assert len(Manifest.load(out / "speech.jsonl").groups) == 3
    assert not list(out.rglob(".*"))


def test_the_tables_have_named_columns(finished):
    out, _, _ = finished
    losses, health = read_table(out / "losses.csv"), read_table(out / "health.csv")
    assert {"stage", "step", "total", "amplitude", "phase", "cycle", "silence", "simulated_complex"} <= set(losses[0])
    assert [(row["stage"], row["step"]) for row in health] == [("speech", "6"), ("joint", "6")]
    assert {"noise_attenuation_db", "speech_loss_db", "cycle_error_ratio", "prior_ratio"} <= set(health[0])
    assert np.isfinite([float(value) for row in health for name, value in row.items() if name != "stage"]).all()


def test_progress_is_told(finished):
    _, _, seen = finished
    assert {("finding noise-only stretches to train on", 1, count) for count in (2, 3)} & set(seen)
    assert ("simulating rooms", 2, 2) in seen
    steps = [report[:3] for report in seen if report[0] in ("speech stage", "joint stage")]
    assert steps == [(f"{stage} stage", step, 6) for stage in ("speech", "joint") for step in range(1, 7)]


def test_tensorboard_has_losses_sounds_and_pictures(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out, _, _ = finished
    for stage, loss in (("speech", "amplitude"), ("joint", "cycle")):
        events = EventAccumulator(str(out / "tensorboard" / stage))
        events.Reload()
        tags = events.Tags()
        assert {f"{stage}/{loss}", f"{stage}/total", "health/noise_attenuation_db"} <= set(tags["scalars"])
        assert np.isfinite([event.value for event in events.Scalars(f"{stage}/total")]).all()
        assert "held_back/before_after" in tags["images"]
        assert set(tags["audio"]) == {"held_back/mixture", "held_back/enhanced"}
        assert events.Audio("held_back/enhanced")[0].sample_rate == RATE
    assert events.Scalars("health/noise_attenuation_db")[0].step == 12


def test_same_seed_same_weights(folders, finished, tmp_path):
    speech, made = folders
    state = torch.random.get_rng_state()
    torch.rand(7)
    same = fitted(speech, made / "noisy", tmp_path / "same", tiny(data={"workers": 1}))
    first, _ = load_checkpoint(finished[0] / "checkpoint.safetensors")
    assert all(torch.equal(value, same.state_dict()[name]) for name, value in first.state_dict().items())
    torch.random.set_rng_state(state)

    other = fitted(speech, made / "noisy", tmp_path / "other", tiny(seed=2))
    changed = [not torch.equal(value, other.state_dict()[name]) for name, value in first.state_dict().items()]
    assert np.mean(changed) > 0.5


@pytest.mark.parametrize(
    ("gpu", "cores", "wanted", "drawing"),
    [(False, 16, None, 1), (True, 16, None, 15), (True, 128, None, 16), (True, 1, None, 1), (True, 16, 0, 0)],
)
def test_a_gpu_is_drawn_for_by_all_other_cores(monkeypatch, gpu, cores, wanted, drawing):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(run_module.os, "cpu_count", lambda: cores)
    assert run_module._workers(wanted) == drawing


def test_the_clean_version_of_a_recording_has_no_effect(folders, finished, tmp_path):
    """The proof that training is unpaired: whatever stands where the clean versions were, the weights are the same."""
    speech, made = folders
    out, opened, _ = finished
    assert opened == {str(path) for folder in (speech, made / "noisy") for path in folder.rglob("*.*")}

    hidden = tmp_path / "made"
    shutil.copytree(made, hidden)
    (hidden / "mixtures.csv").unlink()
    rng = np.random.default_rng(9)
    for path in (hidden / "clean").iterdir():
        size = sf.info(path).frames
        path.unlink()
        write(path, (0.1 * rng.standard_normal(size)).astype(np.float32))
    fitted(speech, hidden / "noisy", tmp_path / "run")
    assert weights(tmp_path / "run") == weights(out)


def test_a_finished_run_is_exported_again_and_not_trained(folders, finished, undrawn, tmp_path, monkeypatch):
    speech, made = folders
    shutil.copytree(finished[0], tmp_path / "run")
    (tmp_path / "run" / "model.onnx").unlink()
    monkeypatch.setattr(run_module.L, "Trainer", None)
    assert run(speech, made / "noisy", tmp_path / "run").exists()
    assert weights(tmp_path / "run") == weights(finished[0])


def test_a_run_with_other_settings_is_kept(folders, finished):
    speech, made = folders
    before = {path: path.read_bytes() for path in finished[0].rglob("*.*") if path.is_file()}
    with pytest.raises(DataError, match="other settings"):
        run(speech, made / "noisy", finished[0], tiny(joint_steps=7))
    assert before == {path: path.read_bytes() for path in finished[0].rglob("*.*") if path.is_file()}


def test_a_run_on_other_recordings_is_kept(folders, finished, tmp_path):
    _, made = folders
    write_speakers(tmp_path / "speech", ("fred", "gina"), 8)
    recorded = (finished[0] / "speech.jsonl").read_bytes()
    with pytest.raises(DataError, match="other recordings"):
        run(tmp_path / "speech", made / "noisy", finished[0])
    assert (finished[0] / "speech.jsonl").read_bytes() == recorded


def test_a_run_goes_on_from_a_trained_model(folders, finished, undrawn, tmp_path):
    speech, made = folders
    start, out = finished[0] / "checkpoint.safetensors", tmp_path / "continued"
    settings = tiny(joint_steps=3, seed=2)
    run(speech, made / "noisy", out, settings, start=start)
    (before, _), (after, recorded) = load_checkpoint(start), load_checkpoint(out / "checkpoint.safetensors")
    assert recorded == settings
    for parts, stays in ((JointAutoencoder.speech_parts, True), (JointAutoencoder.mixture_parts, False)):
        for one, other in zip(parts(before), parts(after), strict=True):
            same = [torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True)]
            assert all(same) if stays else not all(same)
    # The folder is for this start alone.
    for other_start in (None, CHECKPOINTS["default"]):
        with pytest.raises((DataError, ConfigError), match=r"another model|the same networks"):
            run(speech, made / "noisy", out, settings, start=other_start)


def test_a_run_gives_a_trained_model_the_choice_of_the_room(folders, finished, undrawn, tmp_path, monkeypatch):
    monkeypatch.setattr(run_module, "export_model", lambda *_: None)  # another graph, which takes far longer
    speech, made = folders
    start, out = finished[0] / "checkpoint.safetensors", tmp_path / "with_choice"
    settings = tiny(joint_steps=1, optimiser={"learning_rate": 1e-9, "final_learning_rate": 0.0})
    settings = changed(settings, {"model": {"room_choice": True}}, "test")
    run(speech, made / "noisy", out, settings, start=start)
    (before, _), (after, _) = load_checkpoint(start), load_checkpoint(out / "checkpoint.safetensors")
    waveform = torch.randn(1, 8000, generator=torch.Generator().manual_seed(1))
    assert after.room_choice
    torch.testing.assert_close(after.enhance(waveform), before.enhance(waveform), rtol=0, atol=1e-4)
    # The other way round, something would be lost.
    with pytest.raises(ConfigError, match="expected the same networks"):
        run(speech, made / "noisy", tmp_path / "lost", start=out / "checkpoint.safetensors")


def test_both_autoencoders_may_learn_jointly_from_the_start(folders, undrawn, tmp_path):
    speech, made = folders
    settings = tiny(speech_steps=0, joint_steps=2, check_every=2, joint_learning={})
    run(speech, made / "noisy", tmp_path / "out", settings)
    trained, recorded = load_checkpoint(tmp_path / "out" / "checkpoint.safetensors")
    assert recorded == settings
    before = untrained(settings)
    assert not any(map(torch.equal, before.parameters(), trained.parameters()))
    (row,) = read_table(tmp_path / "out" / "losses.csv")[-1:]
    assert row["stage"] == "joint"
    assert {"speech_amplitude", "cycle", "total"} <= set(row)


def test_a_run_starts_from_the_same_networks_and_not_in_their_folder(folders, finished, tmp_path):
    speech, made = folders
    with pytest.raises(ConfigError, match="expected the same networks"):
        run(speech, made / "noisy", tmp_path / "out", start=CHECKPOINTS["default"])
    with pytest.raises(DataError, match="give another folder for the new one"):
        run(speech, made / "noisy", finished[0], start=finished[0] / "checkpoint.safetensors")
    assert not (tmp_path / "out").exists()


def test_a_stage_that_was_cut_behind_its_last_step(folders, finished, tmp_path, monkeypatch):
    """Killed after the last checkpoint, before the stage is marked as finished."""
    speech, made = folders
    original = run_module.replacing

    def fail(path):
        if path.name == "finished.pt":
            raise OSError("the plug was pulled")
        return original(path)

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "replacing", fail)
        with pytest.raises(OSError, match="plug"):
            fitted(speech, made / "noisy", tmp_path / "run")
    assert newest_checkpoint(tmp_path / "run" / "stages" / "speech").name == "step=6.ckpt"
    fitted(speech, made / "noisy", tmp_path / "run")
    assert weights(tmp_path / "run") == weights(finished[0])
    assert newest_checkpoint(tmp_path / "run" / "stages" / "speech") is None


def test_a_stopped_run_ends_like_an_unbroken_one(folders, tmp_path):
    """Weights and tables, though it stops between two rows; the signal that stops it waits for the end of a step."""
    speech, made = folders
    settings = tiny(check_every=40)  # a row of losses every four steps
    fitted(speech, made / "noisy", tmp_path / "whole", settings)
    steps = []

    def stop(stage, step, *_):
        steps.append((stage, step))
        if step == 3:
            signal.raise_signal(signal.SIGTERM)

    for _ in range(2):
        with pytest.raises(interruption.Interruption), interruption.raised():
            fitted(speech, made / "noisy", tmp_path / "broken", settings, stop)
    fitted(speech, made / "noisy", tmp_path / "broken", settings, stop)
    assert steps == [(stage, step) for stage in ("speech stage", "joint stage") for step in range(1, 7)]
    assert weights(tmp_path / "broken") == weights(tmp_path / "whole")
    for name in ("losses.csv", "health.csv"):
        assert (tmp_path / "broken" / name).read_text() == (tmp_path / "whole" / name).read_text()


def kill_in_stage(arguments, folder):
    """Start a run in a process of its own and kill it once a checkpoint of a stage is there."""
    command = [sys.executable, "-m", "sottovoce", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        limit = time.monotonic() + 300
        while newest_checkpoint(folder) is None:
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < limit
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (folder / "finished.pt").exists()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_killed_runs_go_on_to_the_same_weights(folders, undrawn, tmp_path, monkeypatch, capsys):
    speech, made = folders
    settings = tiny(speech_steps=8, joint_steps=8, check_every=4, data={"workers": 1})
    fitted(speech, made / "noisy", tmp_path / "whole", settings)

    config, broken = tmp_path / "tiny.yaml", tmp_path / "broken"
    config.write_text(dump_settings(settings))
    line = ("train", "--speech", speech, "--mixtures", made / "noisy", "--config", config, "-o", broken)
    for stage in ("speech", "joint"):
        kill_in_stage(line, broken / "stages" / stage)
    assert typed(monkeypatch, *line[1:]) == 0
    printed, errors = capsys.readouterr()
    assert printed.replace("\n", "").startswith(f"Wrote {broken / 'model.onnx'}; curves: ")
    assert "s of noise in" in errors
    assert "stage" not in printed
    assert "Traceback" not in errors
    assert "Warning" not in errors
    assert weights(broken) == weights(tmp_path / "whole")
    for name in ("losses.csv", "health.csv"):
        assert (broken / name).read_text() == (tmp_path / "whole" / name).read_text()


def typed(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["sottovoce", "train", *map(str, arguments)])
    return cli.main()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"training": {"sped": 1}}, "training.sped: unknown key, found 1"),
        ({"training": {"data": {"clip_seconds": "2 s"}}}, "training.data.clip_seconds"),
        ({"frontend": {"hop": 0.016}}, "0.016 s at 16 kHz would be 256"),
    ],
)
def test_wrong_settings_are_one_line(folders, tmp_path, monkeypatch, capsys, change, sentence):
    speech, made = folders
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"base": str(make_base(tmp_path)), **change}))
    out = tmp_path / "run"
    assert typed(monkeypatch, "--speech", speech, "--mixtures", made / "noisy", "--config", path, "-o", out) == 1
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert sentence in printed.err
    assert printed.out == ""
    assert not out.exists()


def make_base(folder):
    path = folder / "tiny.yaml"
    path.write_text(dump_settings(tiny()))
    return path


@pytest.mark.parametrize("missing", ["speech", "mixtures"])
def test_a_folder_without_audio_is_one_line(folders, tmp_path, monkeypatch, capsys, missing):
    speech, made = folders
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no sound here")
    given = {"speech": speech, "mixtures": made / "noisy"} | {missing: tmp_path / "empty"}
    arguments = [word for name, folder in given.items() for word in (f"--{name}", folder)]
    assert typed(monkeypatch, *arguments, "--config", make_base(tmp_path), "-o", tmp_path / "run") == 1
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("sottovoce: found no")
    assert "empty" in line


def test_recordings_without_pauses_are_told_and_trained_on(folders, tmp_path, caplog):
    speech, _ = folders
    rng = np.random.default_rng(0)
    for number in range(3):
        hum = tone(4.0, 120 + 20 * number, rng)
        write(tmp_path / "busy" / f"{number}.wav", hum + (0.003 * rng.standard_normal(hum.size)).astype(np.float32))
    with caplog.at_level(logging.WARNING, "sottovoce"):
        model = fitted(speech, tmp_path / "busy", tmp_path / "run", tiny(speech_steps=1, joint_steps=2, check_every=2))
    assert "no noise-only stretch" in caplog.text
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
