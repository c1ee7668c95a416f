"""What a process of the service does to adapt a model, with real trainings of seconds: the command's file and words."""

import inspect
import shutil
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("lightning", reason="needs the extra `train`")

from sottovoce.engine.model import Model
from sottovoce.errors import AudioError, DataError
from sottovoce.models.checkpoint import load_checkpoint
from sottovoce.models.export import Provenance, export_model
from sottovoce.service import adaptation
from sottovoce.service.adaptation import AdaptationOrder, adapt_to_place
from sottovoce.service.client import Client
from sottovoce.service.schemas import AdaptationFields
from sottovoce.service.work import TooLongError
from sottovoce.training.adapt import adapt
from sottovoce.weights import DEFAULT_SPEECH

from ..data.synthetic import RATE, write
from ..training.conftest import fitted, make_recordings, undrawn, write_speakers  # noqa: F401 (a fixture)
from .calls import serving

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(traced_once, tmp_path_factory):
    """Noisy recordings of a place, and a run of a tiny model."""
    folder = tmp_path_factory.mktemp("place")
    write_speakers(folder / "speech", ("anna", "bert", "carl"), 1)
    noisy = make_recordings(folder, 2) / "noisy"
    fitted(folder / "speech", noisy, folder / "run")
    system, settings = load_checkpoint(folder / "run" / "checkpoint.safetensors")
    export_model(folder / "run" / "model.onnx", system, settings, Provenance("CC0", ("Somebody.",), ""))
    return sorted(noisy.glob("*.wav")) or sorted(noisy.glob("*.flac")), folder / "run"


@pytest.fixture
def order(tmp_path, place):
    """Takes recordings, as if they had been sent."""

    def order_(*recordings):
        folder = tmp_path / "job" / "recordings"
        folder.mkdir(parents=True)
        for number, recording in enumerate(recordings):
            shutil.copy(recording, folder / f"{number:04d}{recording.suffix}")
        return AdaptationOrder(
            recordings=folder,
            names=tuple(recording.name for recording in recordings),
            checkpoint=place[1] / "checkpoint.safetensors",
            place="My room",
            steps=4,
            seed=3,
            max_seconds=600,
        )

    return order_


@pytest.mark.usefixtures("undrawn")
def test_the_model_is_the_commands(tmp_path, place):
    """One of the recordings has a name that says nothing, and one is none."""
    recordings, run = place
    sent = [shutil.copy(recordings[0], tmp_path / "of no kind"), *recordings[1:], tmp_path / "broken.wav"]
    (tmp_path / "broken.wav").write_text("no sound")
    with serving(models=(f"tiny={run}",), folder=tmp_path / "state", workers=1) as service:
        client = Client(service.address, timeout_seconds=300)
        job = client.adapt(sent, model="tiny", steps=4, seed=3, name="My room")
        done = client.wait(job.id, every_seconds=0.2)
        assert done.message is None
        client.fetch(job.id, tmp_path / "service.onnx")
        client.enhance(recordings[0], tmp_path / "enhanced.wav", model=job.id)
    assert [path.name for path in (tmp_path / "state" / "jobs" / job.id).iterdir()] == ["My_room.onnx"]
    assert [step for step, _ in done.adaptation.curve] == [1, 2, 3, 4]
    assert done.notes[-1].startswith(("Adapted: ", "Kept the old model: "))
    assert any("Listened to 0.8 minutes" in note for note in done.notes)
    assert any(note.startswith("left out: broken.wav is not a sound file") for note in done.notes)
    assert not any(str(tmp_path) in note or "000" in note for note in done.notes)

    folder = tmp_path / "files"
    folder.mkdir()
    for number, recording in enumerate([*recordings, tmp_path / "broken.wav"]):
        shutil.copy(recording, folder / f"{number:04d}{recording.suffix}")
    command = adapt(
        folder,
        tmp_path / "out",
        checkpoint=run / "checkpoint.safetensors",
        speech=DEFAULT_SPEECH,
        steps=4,
        seed=3,
        command="sottovoce adapt --steps 4 --seed 3",
    )
    assert done.adaptation.adopted == command.adopted
    assert (tmp_path / "service.onnx").read_bytes() == command.model.read_bytes()


def test_steps_and_seed_are_the_commands():
    command = inspect.signature(adapt).parameters
    for name in ("steps", "seed"):
        asked = AdaptationFields.model_fields[name].default
        assert asked == command[name].default == inspect.signature(Client.adapt).parameters[name].default


@pytest.mark.usefixtures("undrawn")
def test_an_interrupted_one_goes_on(place, order, monkeypatch):
    monkeypatch.setattr("sottovoce.training.adapt._CHECK_BATCHES", 1)
    monkeypatch.setattr(adaptation, "_REPORT_SECONDS", 0.0)  # every step is said
    recordings, _ = place
    made = order(*recordings)

    class Killed(BaseException):
        pass

    def end(progress):
        if progress.adaptation.step == 2:
            raise Killed

    with pytest.raises(Killed):
        adapt_to_place(None, made, advance=end)
    seen = []
    result = adapt_to_place(None, made, advance=seen.append)
    assert Model.load(result.path).metadata.name.startswith("tiny")
    # A checkpoint is kept after each quarter of the steps.
    states = [progress.adaptation for progress in seen]
    assert min(state.step for state in states if state.task == "joint stage") > 1
    assert seen[-1].decoded_seconds > 30
    assert [point.step for point in result.adaptation.curve] == [1, 2, 3, 4]


def test_bad_recordings_are_the_commands_sentences(tmp_path, place, order):
    write(tmp_path / "short.wav", np.full(3 * RATE, 0.1, np.float32))
    write(tmp_path / "silent.wav", np.zeros(40 * RATE, np.float32))
    (tmp_path / "broken.wav").write_text("no sound")
    for names, kind, sentence in (
        (["short.wav"], DataError, "found 3.0 s of recordings, expected at least 30 s"),
        (["silent.wav"], DataError, "found nothing but silence, expected recordings of a place"),
        (["broken.wav"], DataError, "broken.wav is not a sound file"),
        (["short.wav", "broken.wav"], DataError, "left out: broken.wav is not a sound file"),
    ):
        with pytest.raises((kind, AudioError)) as error:
            adapt_to_place(None, order(*(tmp_path / name for name in names)), advance=lambda state: None)
        assert sentence in str(error.value)
        assert str(tmp_path) not in str(error.value)
        assert "000" not in str(error.value)
        shutil.rmtree(tmp_path / "job")


def test_sound_is_counted_while_it_is_decoded(place, order):
    recordings, _ = place
    made = order(*recordings)
    seen = []
    with pytest.raises(TooLongError, match=r"found more than 0\.5 minutes of sound"):
        adapt_to_place(None, replace(made, max_seconds=30.0), advance=seen.append)
    # A client is charged with what was decoded.
    assert 30 < seen[-1].decoded_seconds < 35
