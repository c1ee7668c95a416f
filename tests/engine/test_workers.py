"""Worker processes: a crash takes one recording, Ctrl-C takes all of them, and nothing half-written is left."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from sottovoce.engine.files import enhance_files
from sottovoce.engine.workers import WorkerDiedError, Workers
from sottovoce.errors import AudioError
from sottovoce.signal.audio import probe

# Functions that workers call, in a module that they can import.
FUNCTIONS = '''
import logging, os, time
from sottovoce.errors import AudioError

def double(enhancer, number, *, advance):
    advance(number / 2)
    logging.getLogger("sottovoce.test").warning("%d is doubled by %s", number, enhancer.model.metadata.name)
    print("a library's own words")
    os.write(1, b"and those of compiled code")
    return 2 * number

def process(enhancer, *, advance):
    return os.getpid()

def niceness(enhancer, *, advance):
    return os.getpriority(os.PRIO_PROCESS, 0)

def fail(enhancer, *, advance):
    raise AudioError("no sound")

def die(enhancer, *, advance):
    os.abort()

def end(enhancer, *, advance):
    os._exit(3)

def spin(enhancer, *, advance):
    advance(0.0)
    time.sleep(600)

def start_another(enhancer, *, advance):
    import subprocess, sys

    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    advance(other.pid)
    return os.getpid()

def start_another_and_stay(enhancer, *, advance):
    start_another(enhancer, advance=advance)
    time.sleep(600)

class Dying:
    """A network that crashes where it meets loud sound."""

    def __init__(self, model):
        self._model = model

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._model, name)

    def run(self, spectra, past):
        if abs(spectra).max() > 100:
            os.abort()
        return self._model.run(spectra, past)
'''


@pytest.fixture(scope="module")
def workers(identity):
    with Workers(identity) as workers:
        yield workers


def unheard(seconds):
    pass


def test_results_progress_and_messages_come_back(workers, functions, caplog):
    advanced = []
    assert workers.call(functions.double, 21, advance=advanced.append) == 42
    assert advanced == [10.5]
    assert [(r.name, r.levelno, r.message) for r in caplog.records] == [
        ("sottovoce.test", logging.WARNING, "21 is doubled by identity")
    ]


def test_a_process_is_used_again(workers, functions):
    first, second = (workers.call(functions.process, advance=unheard) for _ in range(2))
    assert first == second != os.getpid()


@pytest.mark.skipif(not hasattr(os, "nice"), reason="priorities of POSIX")
def test_others_may_go_first(functions):
    with Workers(None, niceness=3) as workers:
        found = workers.call(functions.niceness, advance=unheard)
    assert found == min(os.getpriority(os.PRIO_PROCESS, 0) + 3, 19)


def test_an_exception_comes_back_and_the_process_stays(workers, functions):
    before = workers.call(functions.process, advance=unheard)
    with pytest.raises(AudioError, match="no sound"):
        workers.call(functions.fail, advance=unheard)
    assert workers.call(functions.process, advance=unheard) == before


@pytest.mark.parametrize(("name", "words"), [("die", "signal 6"), ("end", "exit code 3")])
def test_one_that_dies_is_replaced(workers, functions, name, words):
    before = workers.call(functions.process, advance=unheard)
    with pytest.raises(WorkerDiedError, match=words):
        workers.call(getattr(functions, name), advance=unheard)
    assert workers.call(functions.process, advance=unheard) != before


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes in /proc")
def test_a_process_of_single_use_takes_along_what_it_has_started(functions):
    def is_gone(number):
        try:
            return Path(f"/proc/{number}/stat").read_text().rpartition(") ")[2][0] == "Z"
        except OSError:  # also when it ends while it is read
            return True

    started = []
    with Workers(None, single_use=True) as workers:
        first, second = (workers.call(functions.start_another, advance=started.append) for _ in range(2))
        assert first != second
        with pytest.raises(WorkerDiedError):
            workers.call(
                functions.start_another_and_stay,
                advance=lambda number: (started.append(number), kills[0]()),
                on_start=(kills := []).append,
            )
    assert len(started) == 3
    deadline = time.monotonic() + 30
    while not all(map(is_gone, started)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_call_can_be_ended_from_another_thread_while_it_lasts(workers, functions):
    kills, begins = [], []

    def kill(seconds):
        begins.append(time.monotonic())
        threading.Thread(target=kills[0]).start()

    with pytest.raises(WorkerDiedError, match="signal 9"):
        workers.call(functions.spin, advance=kill, on_start=kills.append)
    assert time.monotonic() - begins[0] < 10
    after = workers.call(functions.process, advance=unheard)
    kills[0]()  # of a call that has ended: its process may have another
    assert workers.call(functions.process, advance=unheard, on_start=kills.append) == after
    kills[1]()
    assert workers.call(functions.process, advance=unheard) == after


def test_one_that_died_while_it_waited_is_replaced(workers, functions):
    before = workers.call(functions.process, advance=unheard)
    os.kill(before, signal.SIGKILL)
    os.waitid(os.P_PID, before, os.WEXITED | os.WNOWAIT)  # until it is dead, and left to who has started it
    assert workers.call(functions.process, advance=unheard) != before


def test_an_interruption_ends_the_process(workers, functions):
    begins = []

    def interrupt(seconds):
        begins.append(time.monotonic())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        workers.call(functions.spin, advance=interrupt)
    assert time.monotonic() - begins[0] < 5


def save(path, peak=0.5):
    path.parent.mkdir(exist_ok=True)
    sf.write(path, peak * np.sin(np.arange(16000) / 5), 16000, subtype="FLOAT")
    return path


def test_a_crash_takes_one_recording(tmp_path, identity, functions):
    from sottovoce.engine.enhancer import Enhancer

    dying = Enhancer(identity.model)
    dying.model = functions.Dying(identity.model)
    for number in range(5):
        save(tmp_path / "in" / f"{number}.wav", peak=1000.0 if number in (1, 3) else 0.5)
    seen = []
    results = enhance_files(
        [tmp_path / "in"], tmp_path / "out", dying, jobs=2, on_progress=lambda _, *seconds: seen.append(seconds)
    )
    assert [result.error is None for result in results] == [True, False, True, False, True]
    loud = tmp_path / "in" / "1.wav"
    assert results[1].error.startswith(f"{loud} made the process crash that worked on it (signal 6")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.wav", "2.wav", "4.wav"]
    assert seen[-1] == pytest.approx((5.0, 5.0))


def test_a_damaged_file_and_a_kept_one_are_said_as_without_workers(tmp_path, identity):
    save(tmp_path / "in" / "a.wav")
    (tmp_path / "in" / "b.wav").write_text("no sound")
    save(tmp_path / "in" / "c.wav")
    expected = enhance_files([tmp_path / "in"], tmp_path / "out", identity, isolate=False)
    (tmp_path / "out" / "a.wav").unlink()
    found = enhance_files([tmp_path / "in"], tmp_path / "out", identity, resume=True)
    assert [(result.error, result.seconds) for result in found] == [(r.error, r.seconds) for r in expected]
    assert [result.kept for result in found] == [False, False, True]


def test_a_single_recording_needs_no_other_process(tmp_path, identity, monkeypatch):
    monkeypatch.setattr("sottovoce.engine.files.Workers", None)
    (result,) = enhance_files([save(tmp_path / "a.wav")], tmp_path / "b.wav", identity)
    assert result.error is None
    assert probe(tmp_path / "b.wav").frames == 16000


def save_long(path):
    """Half an hour of silence, which takes seconds to enhance."""
    path.parent.mkdir(exist_ok=True)
    sf.write(path, np.zeros(1800 * 8000, np.int16), 8000, subtype="PCM_U8")


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("to_group", [False, True])
def test_ctrl_c_ends_all_of_them(tmp_path, identity_model, to_group):
    """By a terminal it reaches the whole group of processes, by `kill` only the first one."""
    for number in range(2):
        save_long(tmp_path / "in" / f"{number}.wav")
    command = ["enhance", "in", "-o", "out", "--jobs", "2", "--model", str(identity_model)]
    process = subprocess.Popen(
        [sys.executable, "-m", "sottovoce", *command],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    with process:
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob("out/.sottovoce-*"))) < 2:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        working = {int(path.name.split("-")[2]) for path in tmp_path.glob("out/.sottovoce-*")}
        assert len(working) == 2
        assert process.pid not in working
        (os.killpg if to_group else os.kill)(process.pid, signal.SIGINT)
        errors = process.stderr.read().decode()
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert list((tmp_path / "out").iterdir()) == []
    assert not any(Path(f"/proc/{pid}").exists() for pid in working)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_workers_end_with_a_process_that_is_killed(tmp_path, identity_model):
    for number in range(2):
        save_long(tmp_path / "in" / f"{number}.wav")
    command = ["enhance", "in", "-o", "out", "--jobs", "2", "--model", str(identity_model)]
    process = subprocess.Popen([sys.executable, "-m", "sottovoce", *command], cwd=tmp_path, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    with process:
        while len(list(tmp_path.glob("out/.sottovoce-*"))) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.kill()
    while list((tmp_path / "out").iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
