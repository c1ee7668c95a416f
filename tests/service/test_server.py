"""The whole command in a process of its own: many at once, an end by signals, and one that nobody asked for."""

import contextlib
import gc
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from urllib.parse import urlsplit

import pytest

from sottovoce.cli.serve import serve
from sottovoce.errors import ConfigError
from sottovoce.service.client import Client
from sottovoce.service.server import Service, _listen
from sottovoce.service.settings import ServiceSettings

from ..signal.audio.files import noise, save
from .calls import call, wait_until

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


class Process:
    """A running `sottovoce serve`, which is killed at the end if it still runs."""

    def __init__(self, *flags, models):
        command = [sys.executable, "-m", "sottovoce", "serve", "--port", "0", "--models", *models, *map(str, flags)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.lines = []
        first = self.process.stderr.readline()
        self.address = re.fullmatch(r"sottovoce: serving at (http://\S+); Ctrl-C ends it\.\n", first)[1]
        self._reading = threading.Thread(target=lambda: self.lines.extend(self.process.stderr))
        self._reading.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.end()

    def end(self):
        """Wait for its end, and give its exit code."""
        code = self.process.wait(30)
        self._reading.join()
        self.process.stderr.close()
        return code


def in_threads(function, count):
    threads = [threading.Thread(target=function, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    return threads


@pytest.mark.slow
def test_many_at_once_a_kill_and_a_restart(tmp_path, models, identity_model, recording):
    flags = ("--folder", tmp_path / "state", "--workers", 2)
    with Process(*flags, models=models) as service:
        client = Client(service.address)
        client.enhance(recording, tmp_path / "alone.wav", model="identity")
        results = []

        def enhance(number):
            client.enhance(recording, tmp_path / f"{number}.wav", model="identity")
            results.append((tmp_path / f"{number}.wav").read_bytes())

        for thread in in_threads(enhance, 64):
            thread.join(60)
        assert results == 64 * [(tmp_path / "alone.wav").read_bytes()]
        assert list((tmp_path / "state").glob(".*")) == []
        wait_until(lambda: len(service.lines) >= 65)
        lines = [json.loads(line) for line in service.lines]
        assert sum(line["message"] == "POST /v1/audio/enhancements 200" for line in lines) == 65
        assert {line["level"] for line in lines} == {"info"}
        assert not any("a.wav" in line for line in service.lines)

        # Killed in the middle of it.
        long = save(tmp_path / "long.wav", noise(16_000 * 600))
        failed = []

        def fail(number):
            try:
                client.enhance(long, tmp_path / f"never{number}.wav")
            except Exception as error:
                failed.append(error)

        threads = in_threads(fail, 4)
        wait_until(lambda: list((tmp_path / "state").glob(".*/*")))
        done, running, queued = (client.submit(path, model="identity").id for path in (recording, long, recording))
        client.wait(done, every_seconds=0.1)
        service.process.kill()
        for thread in threads:
            thread.join(30)
        assert len(failed) == 4
        assert not list(tmp_path.glob("never*"))
        assert list((tmp_path / "state").glob(".*")) != []
    with Process(*flags, models=models) as service:
        assert list((tmp_path / "state").glob(".*")) == []
        client_again = Client(service.address)
        client_again.enhance(recording, tmp_path / "again.wav", model="identity")
        assert (tmp_path / "again.wav").read_bytes() == (tmp_path / "alone.wav").read_bytes()
        # Jobs go on, and what was finished is still there.
        for number, job in enumerate((done, running, queued)):
            assert client_again.wait(job, every_seconds=0.1).state == "done"
            client_again.fetch(job, tmp_path / f"job{number}.wav")
        assert (tmp_path / "job0.wav").read_bytes() == (tmp_path / "job2.wav").read_bytes() == results[0]
        assert (tmp_path / "job1.wav").stat().st_size == long.stat().st_size
        service.process.terminate()
        assert service.end() == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_ends_it_when_what_runs_is_finished(tmp_path, models, name):
    source = save(tmp_path / "a.wav", noise(16_000 * 60))
    with Process("--folder", tmp_path / "state", "--workers", 1, models=models) as service:
        wait_until(lambda: call(service.address, "GET", "/readyz").status == 200)
        client = Client(service.address)
        codes = []

        def enhance(number):
            try:
                client.enhance(source, tmp_path / f"{number}.wav")
            except Exception as error:
                codes.append(getattr(error, "code", error))

        first = in_threads(enhance, 1)
        wait_until(lambda: list((tmp_path / "state").glob(".*/.*")))  # it is being enhanced
        second = threading.Thread(target=enhance, args=(1,))
        second.start()
        wait_until(lambda: len(list((tmp_path / "state").glob(".*/recording.wav"))) == 2)
        time.sleep(0.2)
        service.process.send_signal(getattr(signal, name))
        for thread in (*first, second):
            thread.join(30)
        assert service.end() == 0
    assert codes == ["stopping"]
    assert (tmp_path / "0.wav").stat().st_size == source.stat().st_size
    assert list((tmp_path / "state").glob(".*")) == []
    assert all(json.loads(line)["level"] in ("info", "warning") for line in service.lines)


@pytest.mark.slow
def test_idle_connections_keep_nobody_out(tmp_path, models, recording):
    """Many times as many as the service takes, which lets itself have no more files open than it says it needs."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4096:
        pytest.skip("the system allows too few open files")
    count = min(10_000, hard - 512)  # this process has other files, too
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    few = ("--connections", 32, "--workers", 1, "--queue", 4)
    try:
        with Process("--folder", tmp_path / "state", *few, models=models) as service:
            resource.setrlimit(resource.RLIMIT_NOFILE, (count + 512, hard))
            place = urlsplit(service.address).hostname, urlsplit(service.address).port
            with contextlib.ExitStack() as stack:
                for number in range(count):
                    stack.enter_context(socket.create_connection(place, timeout=10))
                    if number % 1000 == 999:
                        assert call(service.address, "GET", "/healthz").status == 200
                Client(service.address).enhance(recording, tmp_path / "b.wav", model="identity")
            service.process.terminate()
            assert service.end() == 0
            assert not any('"level": "error"' in line for line in service.lines)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_too_few_open_files_are_said_at_the_start(monkeypatch, tmp_path):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (256, 256))
    with pytest.raises(
        ConfigError, match="found a limit of 256 open files, expected 1160 for 512 connections and 50 rec"
    ):
        Service(ServiceSettings(port=0, folder=tmp_path / "state", workers=2, queue=48))
    assert not (tmp_path / "state").exists()


def test_answers_are_not_held_back_until_those_before_are_confirmed(tmp_path):
    """The kernel would: a block of live sound then waits for the next one, which brings the confirmation."""
    with (
        _listen(ServiceSettings(port=0, folder=tmp_path)) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as connection,
    ):
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_what_was_loaded_is_not_searched_for_garbage(monkeypatch, tmp_path):
    """That would take 50 ms every now and then, in which no live sound is passed on."""
    frozen = []

    def run(service):
        with service._listener:
            frozen.append(gc.get_freeze_count())

    monkeypatch.setattr(Service, "run", run)
    try:
        serve(settings=ServiceSettings(port=0, folder=tmp_path / "state"))
    finally:
        gc.unfreeze()
    assert frozen[0] > 10_000
