"""Signals that end a process, in processes of their own and in this one."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading

import pytest

from sottovoce import interruption
from sottovoce.interruption import Deferred, Interruption

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")


def test_a_signal_raises_and_handlers_come_back():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interruption) as caught, interruption.raised():
        signal.raise_signal(signal.SIGTERM)
    assert interruption.exit_code(caught.value) == 143
    assert interruption.exit_code(KeyboardInterrupt()) == 130
    assert signal.getsignal(signal.SIGTERM) == before


def end_by(name, handled=interruption.raised):
    """Give the interruption that a signal becomes in a block."""
    with pytest.raises(Interruption) as caught, handled():
        signal.raise_signal(getattr(signal, name))
    return caught.value


@contextlib.contextmanager
def deferred():
    with interruption.raised(), Deferred():
        yield


@pytest.mark.parametrize("error", [ImportError("half of it"), SystemExit(1), RuntimeError("a worker is gone")])
def test_whatever_an_interruption_becomes_it_is_one(error):
    @contextlib.contextmanager
    def lost():
        with interruption.raised():
            try:
                yield
            except KeyboardInterrupt:
                raise error from None

    assert interruption.exit_code(end_by("SIGHUP", lost)) == 129


@ctypes.CFUNCTYPE(None)
def callback():
    """From a callback, no exception reaches who called the compiled code."""
    signal.raise_signal(signal.SIGTERM)


def test_a_lost_interruption_is_raised_at_the_end(monkeypatch):
    reported, done = [], []
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: reported.append(lost.exc_type))

    @contextlib.contextmanager
    def losing():
        with interruption.raised():
            callback()
            yield
            done.append(True)

    with pytest.raises(Interruption) as caught, losing():
        pass
    assert caught.value.number == signal.SIGTERM
    assert (reported, done) == ([Interruption], [True])


def test_the_innermost_block_that_knows_what_is_saved_notes_a_lost_interruption():
    done = []

    def work():
        with interruption.raised():
            with interruption.noted(lambda: "the first half"), contextlib.suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGHUP)
            done.append(True)

    with pytest.raises(Interruption) as caught:
        work()
    assert (caught.value.__notes__, done) == (["the first half"], [])


def test_notes_of_an_interruption_that_is_lost_later_stay():
    def work():
        with interruption.raised(), contextlib.suppress(KeyboardInterrupt), interruption.noted(lambda: "all"):
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interruption) as caught:
        work()
    assert (caught.value.number, caught.value.__notes__) == (signal.SIGTERM, ["all"])


def test_an_error_that_an_interruption_becomes_takes_its_note():
    def work():
        with interruption.raised(), interruption.noted(lambda: "half"):
            try:
                signal.raise_signal(signal.SIGTERM)
            except KeyboardInterrupt:
                raise OSError("half of it") from None

    with pytest.raises(Interruption) as caught:
        work()
    assert (caught.value.__notes__, str(caught.value.__cause__)) == (["half"], "half of it")


def test_no_stage_begins_after_a_lost_interruption():
    done = []

    def work():
        with interruption.raised():
            with contextlib.suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            with Deferred():
                done.append(True)

    with pytest.raises(Interruption):
        work()
    assert not done


def test_an_interruption_that_is_an_end_is_not_raised_again():
    done = []
    with interruption.raised():
        with interruption.accepted():
            signal.raise_signal(signal.SIGINT)
            done.append("never")
        done.append("after it")
    assert done == ["after it"]


def test_a_block_that_no_signal_met_ends_well():
    interruption.raise_lost()
    with interruption.raised(), interruption.noted(lambda: "all"), Deferred():
        interruption.raise_lost()


def test_an_error_without_a_signal_stays():
    with pytest.raises(ZeroDivisionError), interruption.raised():
        raise ZeroDivisionError


def test_the_echo_of_a_signal_is_no_second_one():
    """`timeout` sends its signal to a process and to its group; what tidies up in between is not disturbed."""
    tidied = []

    @contextlib.contextmanager
    def tidying():
        with interruption.raised():
            try:
                yield
            finally:
                signal.raise_signal(signal.SIGTERM)
                tidied.append(True)

    end_by("SIGTERM", tidying)
    assert tidied


def test_a_signal_that_was_lost_can_be_repeated(monkeypatch):
    monkeypatch.setattr(interruption, "_SAME_REQUEST_SECONDS", -1.0)

    @contextlib.contextmanager
    def losing():
        with interruption.raised():
            with contextlib.suppress(KeyboardInterrupt):  # as in a callback from compiled code
                signal.raise_signal(signal.SIGTERM)
            yield

    end_by("SIGTERM", losing)


def test_what_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruption.raised(), Deferred() as deferred:
            signal.raise_signal(signal.SIGHUP)
            assert not deferred.is_requested
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_deferred_signal_waits_for_the_end():
    done = []

    @contextlib.contextmanager
    def working():
        with interruption.raised(), Deferred() as work:
            yield
            done.append(work.is_requested)

    end_by("SIGTERM", working)
    assert done == [True]


def test_a_deferred_signal_has_the_effect_of_its_handler():
    seen = []
    before = signal.signal(signal.SIGTERM, lambda *_: seen.append(True))
    try:
        # A handler that raises nothing: the block has not done its work all the same.
        end_by("SIGTERM", Deferred)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [True]


def test_a_second_request_is_not_deferred(monkeypatch):
    monkeypatch.setattr(interruption, "_SAME_REQUEST_SECONDS", -1.0)

    @contextlib.contextmanager
    def asked():
        with deferred():
            signal.raise_signal(signal.SIGINT)
            yield
            pytest.fail("the second one was deferred")

    end_by("SIGINT", asked)


@pytest.mark.parametrize(("error", "becomes"), [(SystemExit(1), Interruption), (OSError("full"), OSError)])
def test_an_exit_that_others_make_of_a_signal_is_an_interruption_but_an_error_is_not(error, becomes):
    def end():
        signal.raise_signal(signal.SIGINT)
        raise error

    with pytest.raises(becomes), deferred():
        end()


def test_threads_defer_nothing():
    """Signals come to the main thread alone."""
    problems = []

    def work():
        try:
            with Deferred() as deferred, interruption.raised():
                deferred.heed()
        except BaseException as error:
            problems.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not problems


def test_an_interruption_takes_notes():
    with pytest.raises(KeyboardInterrupt) as caught, interruption.noted(lambda: "all is kept"):
        raise KeyboardInterrupt
    assert caught.value.__notes__ == ["all is kept"]
    with pytest.raises(KeyboardInterrupt) as caught, interruption.noted(lambda: ""):
        raise KeyboardInterrupt
    assert not hasattr(caught.value, "__notes__")


def test_a_process_that_works_for_another_survives_signals():
    code = """
import os, signal, subprocess, sys
from sottovoce import interruption
if sys.argv[1:] == ["child"]:
    interruption.leave_to_parent()
    print("ready", flush=True)
    print("end:", sys.stdin.read(), flush=True)
else:
    with interruption.blocked():
        child = subprocess.Popen([sys.executable, __file__, "child"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        child.send_signal(getattr(signal, name))  # while it starts
    assert child.stdout.readline() == b"ready\\n"
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        child.send_signal(getattr(signal, name))
    out, _ = child.communicate(b"well")
    sys.exit(out != b"end: well\\n" or child.returncode)
"""
    process = subprocess.run(
        [
            sys.executable,
            "-c",
            f"code = {code!r}\nimport pathlib, sys, tempfile, runpy\n"
            "path = pathlib.Path(tempfile.mkdtemp()) / 'both.py'\npath.write_text(code)\n"
            "runpy.run_path(str(path), run_name='__main__')",
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (process.returncode, process.stderr) == (0, "")


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="signals cannot be blocked")
def test_what_multiprocessing_starts_beside_a_pool_survives_signals():
    """Otherwise it is started again when the pool ends, with a warning of Python's."""
    code = """
import os, time
from multiprocessing import resource_tracker
from sottovoce import interruption

if __name__ == "__main__":
    with interruption.process_pool(1) as pool:
        with interruption.blocked():
            future = pool.submit(os.getpid)
        assert future.result() != os.getpid()
        tracker = resource_tracker._resource_tracker._pid
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            os.kill(tracker, getattr(interruption.signal, name))
        time.sleep(0.1)
        assert os.waitpid(tracker, os.WNOHANG) == (0, 0)
"""
    process = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60)
    assert (process.returncode, process.stderr) == (0, "")


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_command_that_is_still_loading_says_what_is_saved(tmp_path, name, code):
    pytest.importorskip("lightning")
    saved = "nothing of the training is saved yet: the same command starts from the beginning"
    if name == "SIGTERM":
        (tmp_path / "c" / "stages" / "speech").mkdir(parents=True)
        (tmp_path / "c" / "stages" / "speech" / "step=40.ckpt").touch()
        saved = "the training is saved in c up to step 40 of the speech stage: the same command goes on from there"
    program = """
import sys

class Watch:
    def find_spec(self, name, *_):
        if name == "torch._C":
            print("loading", flush=True)

sys.meta_path.insert(0, Watch())
from sottovoce.__main__ import main
sys.argv = ["sottovoce", "train", "--speech", "a", "--mixtures", "b", "-o", "c"]
sys.exit(main())
"""
    command = [sys.executable, "-c", program]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=tmp_path, stderr=pipe, stdout=pipe, text=True) as process:
        assert process.stdout.readline() == "loading\n"
        process.send_signal(getattr(signal, name))
        errors = process.stderr.read()
    assert (process.returncode, errors) == (code, f"sottovoce: interrupted: {saved}\n")
