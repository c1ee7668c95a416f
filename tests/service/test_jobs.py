"""Jobs: the same output, whatever happens in between, and nobody's but those who know their names."""

import json
import os
import signal
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from sottovoce.engine.files import enhance_files
from sottovoce.engine.options import EnhanceOptions
from sottovoce.engine.workers import _Worker
from sottovoce.errors import DataError
from sottovoce.service import jobs
from sottovoce.service.client import Client, RefusedError
from sottovoce.service.job_store import JobStore
from sottovoce.service.schemas import EnhancementFields
from sottovoce.service.work import Result

from ..signal.audio.files import noise, save
from .calls import call, part, post, serving, wait_until

FIELDS = EnhancementFields(model="identity").model_dump_json()


@pytest.fixture
def client(service):
    return Client(service.address, timeout_seconds=30)


@pytest.fixture
def long(tmp_path):
    """A minute, which takes some time."""
    return save(tmp_path / "long.wav", noise(16_000 * 60))


def in_the_store(folder, recording, count=1):
    """Jobs that a service has taken before."""
    folder.mkdir(exist_ok=True)
    store = JobStore(folder)
    for number in range(count):
        (folder / f"upload{number}").mkdir()
        (folder / f"upload{number}" / "recording.wav").write_bytes(recording.read_bytes())
        store.add(folder / f"upload{number}", "recording.wav", FIELDS)
    return store


def wait(client, name):
    return client.wait(name, every_seconds=0.05)


def test_the_result_is_the_commands(tmp_path, client, identity, folder, recording):
    enhance_files([recording], tmp_path / "command.wav", identity, EnhanceOptions(mix=0.5))
    job = client.submit(recording, model="identity", mix=0.5)
    assert job.state in ("queued", "running", "done")
    job = wait(client, job.id)
    assert (job.state, job.progress, job.seconds, job.code) == ("done", 1.0, 1.0, None)
    for name in ("first.wav", "second.wav"):
        client.fetch(job.id, tmp_path / name)
        assert (tmp_path / name).read_bytes() == (tmp_path / "command.wav").read_bytes()
    assert [path.name for path in (folder / "jobs" / job.id).iterdir()] == ["enhanced.wav"]
    client.delete(job.id)
    assert list((folder / "jobs").iterdir()) == []
    for ask in (client.job, client.delete, lambda name: client.fetch(name, tmp_path / "never.wav")):
        with pytest.raises(RefusedError, match="found no job of this name") as error:
            ask(job.id)
        assert (error.value.status, error.value.code) == (404, "no_job")


def test_what_is_said_of_a_job(service, client, recording):
    answer = post(service.address, part("file", recording.read_bytes(), "a.flac"), path="/v1/jobs")
    said = json.loads(answer.body)
    assert (answer.status, answer.headers["location"]) == (202, f"/v1/jobs/{said['id']}")
    assert set(said) == {
        *("id", "kind", "state", "progress", "created", "expires"),
        *("seconds", "notes", "adaptation", "result", "error"),
    }
    assert (said["kind"], said["adaptation"]) == ("enhancement", None)
    assert abs(datetime.fromisoformat(said["created"]) - datetime.now(UTC)) < timedelta(minutes=1)
    wait(client, said["id"])
    said = json.loads(call(service.address, "GET", answer.headers["location"]).body)
    assert datetime.fromisoformat(said["expires"]) - datetime.fromisoformat(said["created"]) > timedelta(hours=24)
    result = call(service.address, "GET", said["result"])
    assert (result.headers["content-type"], result.headers["cache-control"]) == ("audio/flac", "no-store")
    client.delete(said["id"])


@pytest.mark.parametrize(
    ("content", "model", "code"),
    [
        (b"no sound", "identity", "unknown_format"),
        (None, "exploding", "model_failed"),
        (bytes(100), "identity", "unknown_format"),
    ],
)
def test_a_job_that_fails_says_why(tmp_path, service, client, folder, recording, content, model, code):
    source = tmp_path / "a.wav"
    source.write_bytes(recording.read_bytes() if content is None else content)
    job = wait(client, client.submit(source, model=model).id)
    assert (job.state, job.code) == ("failed", code)
    assert "/" not in job.message.partition(":")[0]
    answer = call(service.address, "GET", f"/v1/jobs/{job.id}/result")
    assert (answer.status, answer.error) == (
        409,
        ("no_result", "found a job that is failed, expected one that is done"),
    )
    assert list((folder / "jobs" / job.id).iterdir()) == []
    client.delete(job.id)


def test_notes_come_with_the_job(tmp_path, client):
    loud = save(tmp_path / "a.wav", 2 * np.ones((1, 1000), np.float32), subtype="FLOAT").rename(tmp_path / "a.flac")
    (note,) = client.enhance(loud, tmp_path / "b.flac", model="identity")
    job = wait(client, client.submit(loud, model="identity").id)
    assert "samples were beyond full scale" in note
    assert job.notes == (note,)
    client.delete(job.id)


def test_bad_fields_make_no_job(client, folder, recording):
    with pytest.raises(RefusedError, match="found the model 'none'"):
        client.submit(recording, model="none")
    assert list((folder / "jobs").iterdir()) == list(folder.glob(".*")) == []


@pytest.mark.parametrize(
    "name", ["x", "..", "%2e%2e%2f", "../../etc/passwd", "a'; DROP TABLE jobs; --", "%00", "x" * 999]
)
def test_names_that_are_none(service, name):
    path = f"/v1/jobs/{name.replace(' ', '%20')}"
    for method, suffix in (("GET", ""), ("GET", "/result"), ("DELETE", "")):
        answer = call(service.address, method, path + suffix)
        assert (answer.status, answer.error[0]) in {(404, "no_job"), (404, "not_found"), (405, "method_not_allowed")}


def test_nobody_comes_to_a_job_without_its_name(service, client, recording):
    job = client.submit(recording, model="identity").id
    assert call(service.address, "GET", "/v1/jobs").status == 405  # there is no list
    near = [job[:-1], job[1:], job.swapcase(), f"{job}x", f"{job[:-1]}_", f"{job[:-1]}%25", "%25", "*", f"x/../{job}"]
    for name in near:
        for method, suffix in (("GET", ""), ("GET", "/result"), ("DELETE", "")):
            answer = call(service.address, method, f"/v1/jobs/{name}{suffix}")
            assert (answer.status, answer.error[0]) in {(404, "no_job"), (404, "not_found")}, name
        answer = post(service.address, part("file", recording.read_bytes()), part("model", name))
        assert (answer.status, answer.error[0]) == (422, "unknown_model"), name
    assert wait(client, job).state == "done"
    client.delete(job)


def test_names_are_long_and_by_chance(tmp_path, recording):
    store = in_the_store(tmp_path / "state", recording, 20)
    names = {job.id for job in store.all()}
    store.close()
    assert len(names) == 20
    assert all(len(name) == 32 for name in names)  # 192 bits


def test_a_job_that_is_deleted_ends_at_once(tmp_path, models, recording, long):
    with serving(models=models, folder=tmp_path / "state", workers=1) as service:
        client = Client(service.address, timeout_seconds=30)
        running, waiting = client.submit(long), client.submit(recording)
        seen = []
        while not any(0 < share < 1 for share in seen):
            seen.append(client.job(running.id).progress)
            time.sleep(0.02)
        assert seen == sorted(seen)
        assert [client.job(job.id).state for job in (running, waiting)] == ["running", "queued"]
        client.delete(waiting.id)
        client.delete(running.id)
        assert list((tmp_path / "state" / "jobs").iterdir()) == []
        client.enhance(recording, tmp_path / "b.wav", model="identity")


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_what_is_not_finished_goes_on_in_the_next_service(tmp_path, models, recording, long, monkeypatch):
    settings = {"models": models, "folder": tmp_path / "state", "workers": 1}
    with serving(**settings, grace_seconds=0) as service, monkeypatch.context() as patch:
        client = Client(service.address, timeout_seconds=30)
        done = client.submit(recording, model="identity")
        wait(client, done.id)
        call = _Worker.call

        def stopping_after_a_block(worker, function, arguments, advance):
            def stop(progress):
                worker._process.send_signal(signal.SIGSTOP)  # so that it is not done before the service ends
                advance(progress)

            return call(worker, function, arguments, stop)

        patch.setattr(_Worker, "call", stopping_after_a_block)
        running, queued = (client.submit(path, model="identity") for path in (long, recording))
        wait_until(lambda: client.job(running.id).progress > 0)
    store = JobStore(tmp_path / "state")
    assert [(job.attempts, job.ended is None) for job in store.all()] == [(1, False), (0, True), (0, True)]
    store.close()
    with serving(**settings) as service:
        client = Client(service.address, timeout_seconds=30)
        for job, source in ((done, recording), (running, long), (queued, recording)):
            assert wait(client, job.id).state == "done"
            client.fetch(job.id, tmp_path / f"{job.id}.wav")
            assert (tmp_path / f"{job.id}.wav").stat().st_size == source.stat().st_size


def test_a_model_that_is_gone(tmp_path, recording):
    store = in_the_store(tmp_path / "state", recording)
    (job,) = store.all()
    store.close()
    with serving(folder=tmp_path / "state", workers=1) as service:
        assert wait(Client(service.address), job.id).code == "unknown_model"


def test_what_ends_the_service_again_and_again_is_given_up(tmp_path, models, recording):
    store = in_the_store(tmp_path / "state", recording)
    (job,) = store.all()
    for _ in range(3):
        store.begin(job.id)
    store.close()
    with serving(models=models, folder=tmp_path / "state", workers=1) as service:
        assert wait(Client(service.address), job.id).code == "gave_up"


def test_what_a_killed_service_left_is_cleared(tmp_path, recording):
    store = in_the_store(tmp_path / "state", recording)
    (job,) = store.all()
    (tmp_path / "state" / "jobs" / "received and no job").mkdir()
    (store.folder_of(job) / "enhanced.wav").write_text("half")
    store.close()
    store = JobStore(tmp_path / "state")
    assert list((tmp_path / "state" / "jobs").iterdir()) == [store.folder_of(job)]
    store.begin(job.id)
    assert [path.name for path in store.folder_of(job).iterdir()] == ["recording.wav"]
    store.close()


def test_results_expire(tmp_path, monkeypatch, models, recording):
    monkeypatch.setattr(jobs, "_SWEEP_SECONDS", 0.05)
    store = in_the_store(tmp_path / "state", recording, 2)
    first, second = store.all()
    (store.folder_of(first) / "enhanced.wav").touch()
    store.finish(first, Result(store.folder_of(first) / "enhanced.wav", 1.0))
    store.close()
    settings = {"models": models, "folder": tmp_path / "state", "workers": 1}
    with serving(**settings) as service:
        client = Client(service.address)
        assert wait(client, second.id).state == client.job(first.id).state == "done"
    with serving(**settings, job_hours=0):
        wait_until(lambda: not list((tmp_path / "state" / "jobs").iterdir()))


def test_so_many_jobs_and_no_more(tmp_path, models, recording):
    with serving(models=models, folder=tmp_path / "state", workers=1, jobs=1) as service:
        client = Client(service.address)
        job = client.submit(recording, model="identity")
        with pytest.raises(RefusedError) as error:
            client.submit(recording, model="identity")
        assert (error.value.status, error.value.code, error.value.retry_seconds) == (429, "too_many_jobs", 60)
        client.delete(job.id)
        client.submit(recording, model="identity")


def test_jobs_of_the_first_version_are_kept(tmp_path, recording):
    store = in_the_store(tmp_path / "state", recording)
    for name in ("kind", "adaptation"):
        store._run(f"ALTER TABLE jobs DROP COLUMN {name}")
    store._run("PRAGMA user_version = 1")
    store.close()
    for _ in range(2):
        store = JobStore(tmp_path / "state")
        (job,) = store.all()
        assert (job.kind, job.adaptation, job.fields) == ("enhancement", None, FIELDS)
        store.close()


def test_a_folder_has_one_service(tmp_path, recording):
    store = in_the_store(tmp_path / "state", recording)
    with pytest.raises(DataError, match=r"cannot use the jobs in .*end the service that has them"):
        JobStore(tmp_path / "state")
    store._run("PRAGMA user_version = 3")
    store.close()
    with pytest.raises(DataError, match="they are of version 3, expected 2"):
        JobStore(tmp_path / "state")
    (tmp_path / "state" / "jobs.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(DataError, match="file is not a database"):
        JobStore(tmp_path / "state")
