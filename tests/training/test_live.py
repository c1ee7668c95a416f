"""A live session that learns its place: bounded memory, a process of its own, and an end at any time."""

import threading
import time

import numpy as np
import pytest

import sottovoce
from sottovoce.engine.adapters import BASE_NAME, read_adapters, write_adapters
from sottovoce.engine.live import Relay
from sottovoce.engine.model import Model
from sottovoce.engine.workers import WorkerDiedError
from sottovoce.errors import DataError
from sottovoce.signal import audio
from sottovoce.training import live
from sottovoce.training.adapt import Adaptation
from sottovoce.training.live import Learned, LiveAdaptation, RecentSound, learn
from sottovoce.weights import CHECKPOINTS, MODELS

RATE = 16000


def noise(channels, seconds, rate=RATE):
    return np.random.default_rng(0).uniform(-0.5, 0.5, (channels, round(seconds * rate))).astype(np.float32)


def given_in_blocks(sound, receive, block=160):
    for start in range(0, sound.shape[1], block):
        receive(sound[:, start : start + block])


def test_the_newest_sound_is_kept_in_bounded_memory():
    recent = RecentSound(RATE, 2, RATE, max_seconds=3)
    sound = noise(2, 5.5)
    given_in_blocks(sound, recent.append)
    assert recent.seconds == 5
    kept = recent.samples()
    assert kept.dtype == np.int16
    np.testing.assert_allclose(kept / 32767, sound.mean(axis=0)[2 * RATE : 5 * RATE], atol=1e-4)


def test_sound_is_kept_at_the_model_s_rate():
    recent = RecentSound(48000, 1, RATE, max_seconds=10)
    sound = 0.5 * np.sin(2 * np.pi * 440 * np.arange(3 * 48000) / 48000, dtype=np.float32)[np.newaxis]
    given_in_blocks(sound, recent.append, 480)
    kept = recent.samples() / 32767
    assert kept.size == 2 * RATE  # the resampler holds the rest of the third second
    assert np.sqrt(2) * kept.std() == pytest.approx(0.5, abs=0.01)
    recent.append(np.full((1, 4 * 48000), np.nan, np.float32))
    assert recent.samples().size > 5 * RATE


class Trainings:
    """Takes the place of processes that train: gives what a test has prepared, one after the other."""

    def __init__(self, *outcomes):
        self.outcomes = list(outcomes)
        self.calls = []
        self.is_stopped = threading.Event()

    def __call__(self, engine, *, single_use):
        assert single_use
        return self

    def call(self, function, *arguments, advance, on_start):
        assert function is learn
        self.calls.append(arguments)
        outcome = self.outcomes.pop(0)
        if outcome is None:
            on_start(self.is_stopped.set)
            assert self.is_stopped.wait(60)
            raise WorkerDiedError("signal 15, Terminated")
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def stop(self):
        self.is_stopped.set()


@pytest.fixture
def adapted():
    """The bundled model `live`, the file of a place, and the adapted model."""
    base = MODELS["live"].read_bytes()
    shift = {"model.shared.conv.conv.bias": np.full(64, 0.1, np.float32)}
    place = write_adapters(shift, base=base, training_data=("A room.",), command="live")
    return Learned("better", read_adapters(place, "it").applied(base, "it"), place)


@pytest.fixture
def session(monkeypatch):
    """Start an adaptation whose trainings are prepared, and say what it said when these are used up."""
    monkeypatch.setattr(live, "ATTEMPTS_SECONDS", (2.0, 4.0))
    monkeypatch.setattr(live, "_WAIT_SECONDS", 0.001)

    def run(*outcomes, sound_seconds=5, exchange=lambda _: None, **options):
        trainings, said = Trainings(*outcomes), []
        monkeypatch.setattr(live, "Workers", trainings)
        adaptation = LiveAdaptation(
            RATE, 1, model_rate=RATE, checkpoint=CHECKPOINTS["live"], exchange=exchange, say=said.append, **options
        )
        given_in_blocks(noise(1, sound_seconds), adaptation.receive)
        with adaptation:
            deadline = time.monotonic() + 60
            while sound_seconds >= 2 and trainings.outcomes and time.monotonic() < deadline:
                time.sleep(0.001)
            if outcomes[-1] is not None and sound_seconds >= 2:
                adaptation._thread.join(60)
        assert not adaptation._thread.is_alive()
        return trainings, said

    return run


def test_the_adapted_model_takes_over_and_the_place_is_kept(session, adapted, tmp_path):
    stream = Model(MODELS["live"].read_bytes(), "live")
    exchanged = []
    path = tmp_path / "new" / "room.place"
    trainings, said = session(adapted, exchange=exchanged.append, keep=path, command="sottovoce live --adapt")
    ((sound, rate, _, checkpoint, command),) = trainings.calls
    assert (sound.size, rate, checkpoint, command) == (4 * RATE, RATE, CHECKPOINTS["live"], "sottovoce live --adapt")
    assert said[0].startswith("Learning this place in the background")
    assert said[1].startswith("Adapted to this place")
    assert said[2] == f"Wrote {path}."
    assert exchanged[0].metadata.name == "live_adapted"
    assert exchanged[0].metadata.is_interchangeable_with(stream.metadata)
    assert Model.load(path).metadata == exchanged[0].metadata
    assert not (path.parent / BASE_NAME).exists()


def test_a_model_of_one_s_own_is_kept_beside_the_place(session, adapted, tmp_path):
    learned = Learned(adapted.reason, adapted.model, adapted.place, base=b"the base")
    session(learned, keep=tmp_path / "room.place")
    assert (tmp_path / BASE_NAME).read_bytes() == b"the base"


def test_what_is_not_better_is_tried_again_with_more_and_then_no_more(session):
    exchanged = []
    trainings, said = session(Learned("not better"), DataError("found nothing"), exchange=exchanged.append)
    assert len(trainings.calls) == 2
    assert not exchanged
    assert [line for line in said if line.startswith("Kept")] == [
        "Kept the old model: not better.",
        "Kept the model as it is: found nothing.",
    ]


def test_an_end_amid_a_training_ends_it_and_says_nothing(session):
    trainings, said = session(None)
    assert trainings.is_stopped.is_set()
    assert len(said) == 1


def test_too_little_sound_starts_nothing(session):
    trainings, said = session(Learned("not reached"), sound_seconds=1)
    assert not trainings.calls
    assert not said


def test_a_training_that_crashes_leaves_the_session_as_it_is(session):
    _, said = session(WorkerDiedError("signal 9, Killed"), WorkerDiedError("signal 9, Killed"))
    assert said[1] == "Kept the model as it is: signal 9, Killed."


def test_a_relay_hands_over_what_it_takes_and_goes_on_with_the_adapted_model(session, adapted):
    relay = Relay(sottovoce.load("live").stream(RATE), 160, 1024)
    sound = noise(1, 3)
    received = RecentSound(RATE, 1, RATE, 10)
    relay.listener = received.append
    relay.start()
    for start in range(0, sound.shape[1], 160):
        relay.take(sound[:, start : start + 160])
        while relay._taken.qsize():
            time.sleep(0.0002)
    session(adapted, exchange=relay.exchange)
    relay.stop()
    assert relay.error is None
    assert relay._stream._model.metadata.name == "live_adapted"
    np.testing.assert_allclose(received.samples() / 32767, sound[0], atol=1e-4)


def test_what_a_process_does_is_an_adaptation_of_the_sound(monkeypatch, tmp_path):
    sound = np.round(1000 * noise(1, 1)[0]).astype(np.int16)
    given = {}

    def adapt(recording, out, *, checkpoint, speech, command):
        given.update(sound=audio.read(recording), checkpoint=checkpoint, command=command)
        out.mkdir()
        for name in ("model.onnx", "model.place", BASE_NAME):
            (out / name).write_text(name)
        return Adaptation(out / "model.onnx", True, "better", None, None)

    monkeypatch.setattr("sottovoce.training.adapt.adapt", adapt)
    monkeypatch.setattr("os.setpriority", lambda *_: None)
    monkeypatch.setattr("torch.set_num_threads", lambda _: None)
    arguments = sound, RATE, tmp_path, CHECKPOINTS["live"], "sottovoce live --adapt"
    assert learn(None, *arguments, advance=pytest.fail) == Learned(
        "better", b"model.onnx", b"model.place", b"base.onnx"
    )
    np.testing.assert_allclose(given["sound"][0][0] * 32768, sound, atol=1.5)
    assert given["sound"][1] == RATE


def test_silence_is_one_sentence_without_the_name_of_a_temporary_file(monkeypatch, tmp_path):
    monkeypatch.setattr("os.setpriority", lambda *_: None)
    monkeypatch.setattr("torch.set_num_threads", lambda _: None)
    sound = np.zeros(40 * RATE, np.int16)
    with pytest.raises(DataError, match=r"^found nothing but silence, expected") as caught:
        learn(None, sound, RATE, tmp_path, CHECKPOINTS["live"], "", advance=pytest.fail)
    assert str(tmp_path) not in str(caught.value)
