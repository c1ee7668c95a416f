"""Adapting over HTTP: the command's model, whatever happens in between, and nobody's but those who know its name."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sottovoce.engine.files import enhance_files
from sottovoce.engine.model import Model
from sottovoce.engine.options import EnhanceOptions
from sottovoce.service import app, models
from sottovoce.service.client import Client, RefusedError

from ..signal.audio.files import noise, save
from .calls import call, part, post, serving, wait_until

PATH = "/v1/adaptations"

# In the place of what trains; a process of the service can import it.
FUNCTIONS = '''
import os, shutil, subprocess, sys, time
from pathlib import Path
from sottovoce.service.work import AdaptationState, CurvePoint, Progress, Result

def copy(engine, order, *, advance):
    """The "training": it writes down its processes, and the attempt of which it is the result."""
    folder = order.recordings.parent
    (folder / "adapted").mkdir(exist_ok=True)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (folder / "adapted" / "processes").write_text(f"{os.getpid()} {child.pid}")
    attempts = folder / "adapted" / "attempts"
    attempts.write_text(attempts.read_text() + "x" if attempts.exists() else "x")
    curve = ()
    for step in range(1, order.steps + 1):
        curve = (*curve, CurvePoint(step, 1 / step))
        state = AdaptationState("joint stage", step, order.steps, 0.1 * (order.steps - step), curve)
        advance(Progress(state.share, 60.0, state))
        time.sleep(0.05)
    child.kill()
    child.wait()
    target = folder / "room.onnx"
    shutil.copy(os.environ["IDENTITY_MODEL"], target)
    notes = (f"begun {len(attempts.read_text())} times", *order.names)
    state = AdaptationState("done", order.steps, order.steps, None, curve, True)
    return Result(target, 60.0, notes, adaptation=state)

def die(engine, order, *, advance):
    os.abort()

def err(engine, order, *, advance):
    raise RuntimeError("a mistake of ours")
'''


@pytest.fixture
def quick(monkeypatch, functions, identity_model):
    """Adaptations whose training is none."""
    monkeypatch.setenv("IDENTITY_MODEL", str(identity_model))
    monkeypatch.setattr(app, "adapt_to_place", functions.copy)
    return functions


@pytest.fixture
def start(tmp_path, models):
    """Starts services, one after the other, with one folder."""
    settings = {"models": models, "folder": tmp_path / "state", "workers": 1, "max_minutes": 2}

    def start_(**changes):
        return serving(**{**settings, **changes})

    return start_


def submit(client, recording, **options):
    return client.adapt([recording], **options)


def wait(client, name):
    return client.wait(name, every_seconds=0.05)


def are_gone(numbers):
    """Processes have ended; where nobody waits for orphans, something of them stays."""
    states = []
    for number in numbers:
        with contextlib.suppress(OSError):  # it has ended, perhaps while this is read
            states.append(Path(f"/proc/{number}/stat").read_text().rpartition(") ")[2][0])
    return set(states) <= {"Z"}


@pytest.mark.usefixtures("quick")
def test_the_curve_comes_while_it_runs_and_the_result_is_a_model_by_its_id(tmp_path, start, identity, recording):
    other = save(tmp_path / 'b "room".wav', noise(16_000))
    with start() as service:
        client = Client(service.address, timeout_seconds=30)
        job = client.adapt([recording, other], name="Room 12/../ä", steps=20)
        seen = []
        while (found := client.job(job.id)).state in ("queued", "running"):
            if found.adaptation is not None:
                seen.append(found.adaptation)
            time.sleep(0.05)
        assert found.message is None
        assert (found.kind, found.state, found.progress, found.seconds) == ("adaptation", "done", 1.0, 60.0)
        assert found.notes == ("begun 1 times", "a.wav", "b %22room%22.wav")
        assert found.adaptation.adopted
        assert found.adaptation.curve == tuple((step, 1 / step) for step in range(1, 21))
        (half, *_) = (state for state in seen if state.step < 20)
        assert half.task == "joint stage"
        assert half.adopted is None
        assert half.curve == found.adaptation.curve[: half.step]
        assert half.seconds_left == pytest.approx(0.1 * (20 - half.step))
        folder = tmp_path / "state" / "jobs" / job.id
        assert [path.name for path in folder.iterdir()] == ["room.onnx"]

        client.fetch(job.id, tmp_path / "room.onnx")
        assert Model.load(tmp_path / "room.onnx").metadata.name == "identity"
        answer = call(service.address, "GET", f"/v1/jobs/{job.id}/result")
        assert answer.headers["content-disposition"] == 'attachment; filename="room.onnx"'

        enhance_files([recording], tmp_path / "command.wav", identity, EnhanceOptions(mix=0.5))
        client.enhance(recording, tmp_path / "service.wav", model=job.id, mix=0.5)
        assert (tmp_path / "service.wav").read_bytes() == (tmp_path / "command.wav").read_bytes()
        waited = wait(client, client.submit(recording, model=job.id, mix=0.5).id)
        client.fetch(waited.id, tmp_path / "job.wav")
        assert (tmp_path / "job.wav").read_bytes() == (tmp_path / "command.wav").read_bytes()
        block = noise(16_000)
        streamed = list(client.stream([block], 16_000, model=job.id))
        shared = list(client.stream([block], 16_000, model="identity"))
        np.testing.assert_array_equal(np.concatenate(streamed, axis=1), np.concatenate(shared, axis=1))

        # Its name is the key, and nothing public holds it.
        assert job.id not in json.dumps([vars(model) for model in client.models()])
        counters = call(service.address, "GET", "/metrics").body.decode()
        assert job.id not in counters
        assert 'model="adapted"' in counters

        client.delete(job.id)
        for use in (
            lambda: client.enhance(recording, tmp_path / "c.wav", model=job.id),
            lambda: client.submit(recording, model=job.id),
            lambda: list(client.stream([block], 16_000, model=job.id)),
        ):
            with pytest.raises(RefusedError, match=r"found the model '.*', expected one of default") as error:
                use()
            assert error.value.code == "unknown_model"


@pytest.mark.usefixtures("quick")
def test_a_job_that_adapts_nothing_is_no_model(tmp_path, start, recording):
    with start() as service:
        client = Client(service.address, timeout_seconds=30)
        for job in (client.submit(recording, model="identity"), submit(client, recording, steps=400)):
            with pytest.raises(RefusedError, match="found the model"):
                client.enhance(recording, tmp_path / "b.wav", model=job.id)
            client.delete(job.id)


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes in /proc")
@pytest.mark.usefixtures("quick")
def test_one_that_is_deleted_ends_at_once_with_its_processes(tmp_path, start, recording):
    with start() as service:
        client = Client(service.address, timeout_seconds=30)
        running, waiting = (submit(client, recording, steps=400) for _ in range(2))
        wait_until(lambda: client.job(running.id).progress > 0)
        numbers = (tmp_path / "state" / "jobs" / running.id / "adapted" / "processes").read_text().split()
        assert not are_gone(numbers)
        assert client.job(waiting.id).state == "queued"  # one at a time
        # Meanwhile, others are served.
        client.enhance(recording, tmp_path / "b.wav", model="identity")
        client.delete(waiting.id)
        client.delete(running.id)
        wait_until(lambda: are_gone(numbers))
        assert list((tmp_path / "state" / "jobs").iterdir()) == []


@pytest.mark.usefixtures("quick")
def test_what_is_not_finished_goes_on_in_the_next_service(start, recording):
    with start(grace_seconds=30) as service:
        client = Client(service.address, timeout_seconds=30)
        job = submit(client, recording, steps=40)
        wait_until(lambda: client.job(job.id).progress > 0)
        stopped = time.monotonic()
    assert time.monotonic() - stopped < 10  # it is not waited for
    with start() as service:
        client = Client(service.address, timeout_seconds=30)
        assert wait(client, job.id).notes[0] == "begun 2 times"


SERVICE = """
import sys
from sottovoce.service import app
from sottovoce.service.server import Service
from sottovoce.service.settings import ServiceSettings
import {module}
app.adapt_to_place = {module}.copy
service = Service(ServiceSettings(port=0, workers=1))
print(service.address, flush=True)
service.run()
"""


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes in /proc")
def test_a_killed_service_leaves_no_process_and_the_next_one_goes_on(tmp_path, quick, start, recording):
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(quick.__file__).parent), *sys.path]),
        "SOTTOVOCE_FOLDER": str(tmp_path / "state"),
    }
    with subprocess.Popen(
        [sys.executable, "-c", SERVICE.format(module=quick.__name__)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        client = Client(process.stdout.readline().strip(), timeout_seconds=30)
        job = submit(client, recording, steps=40)
        wait_until(lambda: client.job(job.id).progress > 0)
        numbers = (tmp_path / "state" / "jobs" / job.id / "adapted" / "processes").read_text().split()
        process.send_signal(signal.SIGKILL)
    wait_until(lambda: are_gone(numbers))
    with start() as service:
        client = Client(service.address, timeout_seconds=30)
        assert wait(client, job.id).notes[0] == "begun 2 times"
        client.delete(job.id)
        assert list((tmp_path / "state" / "jobs").iterdir()) == []


@pytest.mark.parametrize(("name", "code"), [("die", "adaptation_crashed"), ("err", "internal")])
def test_what_goes_wrong_is_a_sentence(tmp_path, monkeypatch, functions, start, recording, name, code):
    monkeypatch.setattr(app, "adapt_to_place", getattr(functions, name))
    with start() as service:
        client = Client(service.address, timeout_seconds=30)
        job = wait(client, submit(client, recording).id)
        assert (job.state, job.code, job.adaptation) == ("failed", code, None)
        assert "mistake" not in job.message
        assert list((tmp_path / "state" / "jobs" / job.id).iterdir()) == []
        with pytest.raises(RefusedError, match="found a job that is failed"):
            client.fetch(job.id, tmp_path / "never.onnx")


@pytest.mark.usefixtures("quick")
def test_so_many_at_once_and_no_more(start, recording):
    with start(adaptations=1) as service:
        client = Client(service.address, timeout_seconds=30)
        job = submit(client, recording, steps=400)
        with pytest.raises(RefusedError, match="found 1 adaptations that wait or run") as error:
            submit(client, recording)
        assert (error.value.status, error.value.code, error.value.retry_seconds) == (429, "too_many_jobs", 120)
        client.delete(job.id)
        client.delete(submit(client, recording).id)


def test_where_it_is_off_or_cannot_be(tmp_path, monkeypatch, start, recording):
    with start(adaptations=0) as service:
        client = Client(service.address, timeout_seconds=30)
        assert not any(model.adaptable for model in client.models())
        with pytest.raises(RefusedError, match="it was started with --adaptations 0") as error:
            submit(client, recording)
        assert (error.value.status, error.value.code) == (501, "no_adaptation")
    with start() as service:
        client = Client(service.address, timeout_seconds=30)
        assert [model.name for model in client.models() if model.adaptable] == ["default", "live"]
        monkeypatch.setattr("sottovoce.extras.is_installed", lambda module: module != "torch")
        monkeypatch.setattr(models, "is_installed", lambda module: module != "torch")
        assert not any(model.adaptable for model in client.models())
        with pytest.raises(RefusedError, match=r"needs the package 'torch'.*sottovoce\[train\]") as error:
            submit(client, recording)
        assert (error.value.status, error.value.code) == (501, "not_installed")
    assert list((tmp_path / "state" / "jobs").iterdir()) == []


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"steps": 0}, "found steps 0, expected 1 to 2000"),
        ({"steps": 10**9}, "found steps 1000000000, expected 1 to 2000"),
        ({"steps": "many"}, "found steps 'many', expected a whole number"),
        ({"seed": -1}, "found seed -1, expected 0 to 4294967295"),
        ({"model": "identity"}, "found the model 'identity', expected one that can be adapted: default, live"),
        ({"speech": "/etc"}, "found the field 'speech', expected one of file, model, name, seed, steps"),
        ({"name": "x" * 2000}, "found more than 1000 bytes in the field 'name'"),
    ],
)
def test_bad_fields_make_no_job(service, folder, recording, fields, sentence):
    parts = [part("file", recording.read_bytes(), "a.wav"), *(part(*field) for field in fields.items())]
    answer = post(service.address, *parts, path=PATH)
    assert (answer.status, answer.error[1]) == (422, sentence)
    assert list((folder / "jobs").iterdir()) == list(folder.glob(".*")) == []


def test_no_file_too_many_and_too_large(service, folder, recording):
    file = part("file", b"RIFF", "a.wav")
    for parts, status, sentence in (
        ([part("seed", 1)], 422, "found a form without a file"),
        ([file] * 65, 422, "found more than 64 files in one form"),
        ([part("file", bytes(1_100_000), "a.wav")] * 2, 413, "found more than 2 MB"),
    ):
        answer = post(service.address, *parts, path=PATH)
        assert answer.status == status
        assert sentence in answer.error[1]
    assert list((folder / "jobs").iterdir()) == list(folder.glob(".*")) == []


@pytest.mark.usefixtures("quick")
def test_names_of_files_name_no_file(tmp_path, start, recording):
    names = ["../../../etc/passwd", "/etc/passwd", "a\x00b.wav", "..", "", "x" * 3000, "a.flac"]
    with start() as service:
        parts = [part("file", recording.read_bytes(), name) for name in names]
        answer = post(service.address, *parts, part("steps", 400), path=PATH)
        assert answer.status == 202
        job = json.loads(answer.body)["id"]
        sent = tmp_path / "state" / "jobs" / job / "recordings"
        assert sorted(path.name for path in sent.iterdir()) == [
            *("0000", "0001", "0002.wav", "0003", "0004", "0005", "0006.flac"),
        ]
        assert call(service.address, "DELETE", f"/v1/jobs/{job}").status == 204
