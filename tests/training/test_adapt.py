"""Adapting: better or as before, whatever it is given, and without the clean version of anything."""

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from sottovoce import cli
from sottovoce.config import SystemSettings, changed
from sottovoce.data.corpora.harvest import NoiseStretch
from sottovoce.data.corpora.manifest import Manifest, scan
from sottovoce.data.corpora.place import Place, listen
from sottovoce.engine.adapters import write_adapters
from sottovoce.engine.enhancer import Enhancer
from sottovoce.engine.model import Model
from sottovoce.errors import ConfigError, DataError
from sottovoce.metrics.report import Mean
from sottovoce.models.checkpoint import load_checkpoint, read_checkpoint
from sottovoce.models.export import Provenance, export_model
from sottovoce.signal import audio
from sottovoce.signal.resampling import resample
from sottovoce.training import adapt as adapt_module
from sottovoce.training import preparation
from sottovoce.training.adapt import Comparison, adapt, compare
from sottovoce.training.preparation import TrainingData
from sottovoce.weights import CHECKPOINTS, DEFAULT_SPEECH, MODELS

from ..data.synthetic import RATE, write
from ..systems import without_warm_up
from .conftest import fitted, tiny

BETTER = Comparison(Mean(1.0, 0.2, 32, 0), 0.0, -1.0)
NO_DIFFERENCE = Comparison(Mean(0.1, 0.2, 32, 0), 0.0, 0.0)
WORSE = Comparison(Mean(-1.0, 0.2, 32, 0), 0.0, -1.0)


@pytest.fixture(scope="module")
def checkpoint(folders, tmp_path_factory):
    """A tiny trained system."""
    speech, made = folders
    out = tmp_path_factory.mktemp("trained")
    fitted(speech, made / "noisy", out)
    return out / "checkpoint.safetensors"


@pytest.fixture
def place(folders, checkpoint):
    """Arguments of an adaptation of seconds."""
    speech, made = folders
    return {"mixtures": made / "noisy", "checkpoint": checkpoint, "speech": speech, "steps": 2}


@pytest.fixture
def unexported(undrawn, monkeypatch):
    """Adaptations without pictures and models, which take far longer than the steps."""
    model = MODELS["live"].read_bytes()
    nothing = write_adapters({}, base=model, training_data=(), command="")
    monkeypatch.setattr(adapt_module, "adapters_between", lambda *_, **__: nothing)
    monkeypatch.setattr(adapt_module, "export_model", lambda path, *_, **__: path.write_bytes(model))
    monkeypatch.setattr(adapt_module, "_draw_before_after", lambda *_: None)


def judged(monkeypatch, comparison):
    monkeypatch.setattr(adapt_module, "compare", lambda *_: comparison)


def same(one, other):
    tensors, others = (read_checkpoint(path, SystemSettings)[0] for path in (one, other))
    return all(torch.equal(value, others[name]) for name, value in tensors.items())


@pytest.mark.usefixtures("unexported")
def test_a_better_system_is_taken(tmp_path, place, checkpoint, monkeypatch):
    judged(monkeypatch, BETTER)
    reports = []
    adaptation = adapt(**place, out=tmp_path / "out", on_progress=lambda *report: reports.append(report[:3]))
    assert adaptation.adopted
    assert not same(tmp_path / "out" / "checkpoint.safetensors", checkpoint)
    assert [step for task, step, _ in reports if task == "joint stage"] == [1, 2]
    # The speech autoencoder is what clean speech has taught: a place does not change it.
    paths = checkpoint, tmp_path / "out" / "checkpoint.safetensors"
    before, after = (read_checkpoint(path, SystemSettings)[0] for path in paths)
    assert before.keys() == after.keys()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"mixture_encoder", "mask"}
    # Nor does it what is frozen beside its adapters: a large matrix changes by one of rank 4.
    weight = "mixture_encoder.latent.conv.weight"
    assert min(before[weight].shape[:2]) > 4
    assert torch.linalg.matrix_rank((after[weight] - before[weight])[..., 0], atol=1e-6) == 4
    written = json.loads((tmp_path / "out" / "adaptation.json").read_text(encoding="utf-8"))
    assert written["adopted"] is True
    assert written["place"]["seconds"] > 40


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_one_that_is_not_better_is_not(tmp_path, place, checkpoint, monkeypatch):
    judged(monkeypatch, WORSE)
    adaptation = adapt(**place, out=tmp_path / "out")
    assert not adaptation.adopted
    assert "not better" in adaptation.reason
    assert same(tmp_path / "out" / "checkpoint.safetensors", checkpoint)
    waveform = 0.1 * np.random.default_rng(0).standard_normal((1, RATE)).astype(np.float32)
    old = load_checkpoint(checkpoint)[0].enhance(torch.from_numpy(waveform)).numpy()
    assert Model.load(adaptation.model).metadata.licence == "not stated"
    np.testing.assert_allclose(without_warm_up(Enhancer(Model.load(adaptation.model)), waveform), old, atol=1e-4)
    # What was learned is there, under a name that nobody takes for better.
    assert adaptation.refused == tmp_path / "out" / "refused.onnx"
    learned = Model.load(adaptation.refused)
    assert learned.metadata.name == "tiny_adapted"
    assert not (tmp_path / "out" / "model.place").exists()
    assert not np.allclose(without_warm_up(Enhancer(learned), waveform), old, atol=1e-6)


def test_what_is_taken_must_be_better_by_more_than_chance_and_eat_no_speech():
    assert BETTER.is_better
    assert not WORSE.is_better
    assert not Comparison(Mean(0.1, 0.2, 32, 0), 0.0, 0.0).is_better
    assert not Comparison(Mean(math.nan, math.nan, 0, 32), 0.0, 0.0).is_better
    assert not Comparison(Mean(1.0, 0.2, 32, 0), -0.5, 0.0).is_better
    assert not Comparison(Mean(1.0, 0.2, 32, 0), 0.0, 3.0).is_better


def held_back(folder):
    """White noise with the bundled speech as what was held back."""
    write(folder / "noise.wav", (0.05 * np.random.default_rng(1).standard_normal(30 * RATE)).astype(np.float32))
    noise, speech = scan(folder), scan(DEFAULT_SPEECH)
    nothing = Manifest(())
    return TrainingData(nothing, nothing, speech, noise, (), (NoiseStretch(noise.recordings[0], 0, 30 * RATE),), ())


@pytest.mark.slow
def test_a_better_system_is_told_from_a_worse_one(tmp_path, monkeypatch):
    """The bundled model against itself with less care: without any clean version of a recording."""
    monkeypatch.setattr(adapt_module, "_CHECK_BATCHES", 2)  # such a difference shows in a quarter of the clips
    good, settings = load_checkpoint(CHECKPOINTS["default"])
    settings = changed(settings, {"training": {"data": {"clip_seconds": 2.0}}}, "a test")
    careless, _ = load_checkpoint(CHECKPOINTS["default"])
    with torch.no_grad():
        careless.mask.network.merge.bias.add_(0.3)
    data = held_back(tmp_path)
    assert compare(careless, good, data, settings).is_better
    assert not compare(good, careless, data, settings).is_better
    itself = compare(good, good, data, settings)
    assert (itself.gain_db.value, itself.speech_change_db, itself.noise_change_db) == (0.0, 0.0, 0.0)
    assert not itself.is_better


@pytest.mark.usefixtures("unexported")
def test_clean_recordings_teach_nothing(tmp_path, checkpoint, folders, monkeypatch):
    monkeypatch.setattr(adapt_module, "fit", lambda *_, **__: pytest.fail("there is nothing to train on"))
    pause = np.zeros(2 * RATE, np.float32)
    files = audio.find_audio(DEFAULT_SPEECH)[:8]
    speech = [resample(waveform[0], rate, RATE) for waveform, rate in map(audio.read, files)]
    long = np.concatenate([part for utterance in speech for part in (utterance, pause)])
    long += (10.0 ** (-70 / 20) * np.random.default_rng(1).standard_normal(long.size)).astype(np.float32)
    write(tmp_path / "clean.flac", long)
    adaptation = adapt(tmp_path / "clean.flac", tmp_path / "out", checkpoint=checkpoint, speech=folders[0])
    assert not adaptation.adopted
    assert "clean already" in adaptation.reason
    assert same(tmp_path / "out" / "checkpoint.safetensors", checkpoint)


@pytest.mark.usefixtures("unexported")
@pytest.mark.parametrize(
    ("found", "t60_seconds"), [(0.5, (0.25, 0.75)), (0.1, (0.15, 0.3)), (90.0, (2.5, 7.5)), (math.nan, (0.2, 0.3))]
)
def test_rooms_are_like_that_of_the_place(tmp_path, place, found, t60_seconds, monkeypatch):
    compared = []
    monkeypatch.setattr(adapt_module, "listen", lambda *_: replace(listen(*_), t60_seconds=found))
    monkeypatch.setattr(adapt_module, "compare", lambda *given: compared.append(given) or BETTER)
    adapt(**(place | {"steps": 1}), out=tmp_path / "out")
    ((_, _, data, settings),) = compared
    wanted = settings.training.data.simulation.room
    rooms = wanted.t60_seconds
    assert rooms == t60_seconds
    assert (wanted.keep_share, wanted.dry_share) == (0.0, 0.0)
    assert (wanted.share == tiny().training.data.simulation.room.share) == math.isnan(found)
    assert len(data.rooms) == 2
    assert all(rooms[0] <= room.t60_seconds <= rooms[1] for room in data.rooms)
    # What was adapted can be adapted again.
    assert load_checkpoint(tmp_path / "out" / "checkpoint.safetensors")[1] == settings


@pytest.mark.usefixtures("unexported")
@pytest.mark.parametrize(("comparison", "advised"), [(NO_DIFFERENCE, True), (BETTER, False)])
def test_recordings_of_several_places_are_named(tmp_path, place, monkeypatch, caplog, comparison, advised):
    judged(monkeypatch, comparison)
    monkeypatch.setattr(adapt_module, "fit", lambda *_, **__: None)
    monkeypatch.setattr(adapt_module, "plot_run", lambda *_: None)
    kinds = property(lambda measured: [[recording] for recording in measured.noisy])
    monkeypatch.setattr(Place, "noises", kinds)
    monkeypatch.setattr(Place, "is_several", True)
    adaptation = adapt(**place, out=tmp_path / "out")
    found = json.loads((tmp_path / "out" / "adaptation.json").read_text(encoding="utf-8"))["place"]["noises"]
    assert len(found) == len(adaptation.place.noisy)
    assert f"found {len(found)} kinds of noise, more than one place has" in caplog.text
    assert ("adapt each by itself" in adaptation.reason) == advised
    assert {noise["like"] for noise in found} <= {path.name for path in place["mixtures"].iterdir()}
    assert all(f"1 excerpts like {noise['like']}" in caplog.text for noise in found)


@pytest.mark.usefixtures("unexported")
def test_recordings_without_speech_teach_their_steady_noise(tmp_path, place, monkeypatch, caplog):
    judged(monkeypatch, BETTER)
    write(tmp_path / "noise.wav", (0.1 * np.random.default_rng(1).standard_normal(40 * RATE)).astype(np.float32))
    adaptation = adapt(**(place | {"mixtures": tmp_path / "noise.wav"}), out=tmp_path / "out")
    assert adaptation.adopted
    assert "no clear voice" in caplog.text


@pytest.mark.usefixtures("unexported")
def test_without_pauses_and_with_little_taken_away_nothing_is_learned(tmp_path, place, checkpoint, monkeypatch):
    monkeypatch.setattr(preparation, "harvest_residuals", lambda *_, **__: ())
    write(tmp_path / "noise.wav", (0.1 * np.random.default_rng(1).standard_normal(40 * RATE)).astype(np.float32))
    adaptation = adapt(**(place | {"mixtures": tmp_path / "noise.wav"}), out=tmp_path / "out")
    assert not adaptation.adopted
    assert "record the place with pauses" in adaptation.reason
    assert same(tmp_path / "out" / "checkpoint.safetensors", checkpoint)


@pytest.mark.usefixtures("unexported")
def test_a_folder_is_for_one_place_and_one_model(tmp_path, place, monkeypatch):
    judged(monkeypatch, BETTER)
    adapt(**place, out=tmp_path / "out")
    with pytest.raises(DataError, match="give another folder for the new one"):
        adapt(**(place | {"checkpoint": tmp_path / "out" / "checkpoint.safetensors"}), out=tmp_path / "out")
    other = tmp_path / "other.safetensors"
    other.write_bytes(CHECKPOINTS["default"].read_bytes())
    with pytest.raises(DataError, match="another model"):
        adapt(**(place | {"checkpoint": other}), out=tmp_path / "out")
    write(tmp_path / "elsewhere" / "a.wav", (0.1 * np.random.default_rng(1).standard_normal(40 * RATE)).astype("f4"))
    with pytest.raises(DataError, match="other recordings"):
        adapt(**(place | {"mixtures": tmp_path / "elsewhere"}), out=tmp_path / "out")


def test_a_step_is_one_batch_however_many_the_training_took():
    trained = tiny(processes=2, accumulate=3)
    training = adapt_module._settings(trained, steps=5, seed=1).training
    assert (training.processes, training.accumulate, training.joint_steps) == (1, 1, 5)


def test_one_speaker_is_too_few(tmp_path, place):
    with pytest.raises(DataError, match="found one of the speakers"):
        adapt(**(place | {"speech": one_speaker(tmp_path)}), out=tmp_path / "out")


def one_speaker(folder):
    audio_file = audio.find_audio(DEFAULT_SPEECH)[0]
    (folder / "speech" / "anna").mkdir(parents=True)
    (folder / "speech" / "anna" / audio_file.name).write_bytes(audio_file.read_bytes())
    return folder / "speech"


def test_bad_input_is_one_sentence(tmp_path, place, monkeypatch, capsys):
    with pytest.raises(ConfigError, match="found 0 steps"):
        adapt(**(place | {"steps": 0}), out=tmp_path / "out")
    write(tmp_path / "short.wav", np.ones(3 * RATE, np.float32) * 0.1)
    with pytest.raises(DataError, match=r"found 3\.0 s"):
        adapt(**(place | {"mixtures": tmp_path / "short.wav"}), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    for model, sentence in (
        (tmp_path / "model.onnx", "training checkpoint"),
        (tmp_path / "room.place", "training checkpoint"),
        (tmp_path / "none", "checkpoint"),
    ):
        arguments = ["adapt", "--mixtures", tmp_path, "-o", tmp_path / "out", "--model", model]
        monkeypatch.setattr("sys.argv", ["sottovoce", *map(str, arguments)])
        assert cli.main() == 1
        printed = capsys.readouterr().err
        assert sentence in printed
        assert len(printed.strip().splitlines()) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_the_origin_of_the_old_model_is_kept(tmp_path, place, checkpoint, monkeypatch):
    """What a user may do with an adapted model follows from what it came from."""
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(checkpoint, run / "checkpoint.safetensors")
    system, settings = load_checkpoint(checkpoint)
    export_model(run / "model.onnx", system, settings, Provenance("CC0", ("Somebody.",), "train"))
    for comparison, expected in ((WORSE, ("Somebody.",)), (BETTER, ("Somebody.", "Recordings of a place."))):
        judged(monkeypatch, comparison)
        out = tmp_path / f"out_{comparison.is_better}"
        arguments = place | {"checkpoint": run / "checkpoint.safetensors"}
        model = Model.load(adapt(**arguments, out=out, command="adapt").model)
        assert model.metadata.licence == "CC0"
        assert model.metadata.training_data == expected
        assert model.metadata.command == ("adapt" if comparison.is_better else "train")
        assert (out / "base.onnx").read_bytes() == (run / "model.onnx").read_bytes()
    # The file of the place is the model, to those who have the old one; and it can be adapted again.
    assert Model.load(out / "model.place").metadata == model.metadata
    again = adapt(**(place | {"checkpoint": out / "checkpoint.safetensors"}), out=tmp_path / "again")
    assert Model.load(again.model).metadata.name == model.metadata.name == "tiny_adapted"


@pytest.mark.slow
def test_the_command_adapts_the_bundled_model(tmp_path, monkeypatch, capsys, folders):
    monkeypatch.setattr(adapt_module, "_CHECK_BATCHES", 1)
    _, made = folders
    arguments = ["adapt", "--mixtures", made / "noisy", "-o", tmp_path / "out", "--steps", "1"]
    monkeypatch.setattr("sys.argv", ["sottovoce", *map(str, arguments)])
    assert cli.main() == 0
    printed = capsys.readouterr().out
    assert "Listened to 0.8 minutes" in printed
    assert "Kept the old model" in printed or "Adapted" in printed
    assert Model.load(tmp_path / "out").metadata.sample_rate == RATE
    for name in ("model.onnx", "adaptation.json", "noise.png", "before_after.png", "losses.png"):
        assert (tmp_path / "out" / name).stat().st_size > 100
