"""Trainings in two processes: the same weights as in one, and an end for both when one is killed."""

import os
import signal
import socket
import subprocess
import sys
import time
import traceback
import warnings

import numpy as np
import pytest
import torch

from sottovoce.config import changed, dump_settings
from sottovoce.data.sampling import UnpairedBatch
from sottovoce.errors import ProcessError
from sottovoce.models.checkpoint import load_checkpoint
from sottovoce.training import checkpoints
from sottovoce.training.preparation import prepare
from sottovoce.training.processes import rank
from sottovoce.training.run import fit, training_clips, untrained
from sottovoce.training.saved import newest_checkpoint, step_of
from sottovoce.training.stages import joint_stages

from .conftest import fitted, in_group, tiny, without_pictures

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")

WEIGHTS = "checkpoint.safetensors"


def forked(function, log):
    """Start two processes that train together, which have all imports already; give their numbers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for number in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
            process = os.fork()
        if not process:
            code = 70
            try:
                os.dup2(os.open(f"{log}-{number}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
                os.environ |= {"LOCAL_RANK": str(number), "NODE_RANK": "0", "WORLD_SIZE": "2"}
                os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
                function(number)
                code = 0
            except ProcessError:
                code = 3
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        started.append(process)
    return started


def ended(process):
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def in_two(function, log):
    codes = [ended(process) for process in forked(function, log)]
    assert codes == [0, 0], [log.with_name(f"{log.name}-{number}").read_text() for number in range(2)]


def test_two_processes_give_the_weights_of_one_that_adds_up_two_batches(folders, tmp_path):
    """To the last bit: halves of gradients are exact, and two of them have one sum."""
    speech, made = folders
    two, names = tiny(processes=2), ("two", "other")
    in_two(lambda number: fitted(speech, made / "noisy", tmp_path / names[number], two), tmp_path / "log")
    fitted(speech, made / "noisy", tmp_path / "one", tiny(accumulate=2))
    one, first, second = (load_checkpoint(tmp_path / name / WEIGHTS)[0].state_dict() for name in ("one", *names))
    for name, value in one.items():
        assert torch.equal(value, first[name])
        assert torch.equal(value, second[name])
    assert not (tmp_path / "other" / "losses.csv").exists()


class Doubled:
    """Two batches of other clips as one."""

    def __init__(self, clips):
        self._clips = clips

    def batch(self, number, purpose):
        pair = (self._clips.batch(2 * number + half, purpose) for half in range(2))
        return UnpairedBatch(*(np.concatenate(parts) for parts in zip(*pair, strict=True)))


def test_two_batches_that_are_added_up_are_a_doubled_batch(folders, tmp_path):
    """But for rounding: sums over the clips of a batch have another order, and Adam makes steps of what they leave."""
    speech, made = folders
    found = []
    for accumulate in (2, 1):
        # Random numbers of a doubled batch are others.
        settings = changed(tiny(accumulate=accumulate), {"model": {"latent_noise": 0.0}}, "test")
        out, model = tmp_path / str(len(found)), untrained(settings)
        data = prepare(speech, made / "noisy", out, settings)
        clips = training_clips(data, settings)
        with without_pictures():
            stages = joint_stages(model, settings)[1:]
            fit(model, stages, data, out, settings, clips=clips if accumulate == 2 else Doubled(clips))
        found.append(model.state_dict())
    start = untrained(settings).state_dict()
    moved = max((value - start[name]).abs().max() for name, value in found[0].items() if value.is_floating_point())
    apart = max((value - found[1][name]).abs().max() for name, value in found[0].items() if value.is_floating_point())
    assert moved > 1e-3
    assert apart < 1e-3 * moved  # measured: 6e-5


def test_a_step_that_adds_up_batches_is_saved_whole(folders, tmp_path):
    speech, made = folders
    settings = tiny(accumulate=3, speech_steps=1, joint_steps=4, check_every=40)
    fitted(speech, made / "noisy", tmp_path / "whole", settings)

    class StopError(Exception):
        pass

    def stop(stage, step, *_):
        if (stage, step) == ("joint stage", 3):
            raise StopError

    broken = tmp_path / "broken"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "_EVERY_SECONDS", 0.0)  # after every step, if it were only that
        with pytest.raises(StopError):
            fitted(speech, made / "noisy", broken, settings, stop)
        assert step_of(newest_checkpoint(broken / "stages" / "joint")) == 2
        fitted(speech, made / "noisy", broken, settings)
    assert (broken / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()


KILLED = {"speech_steps": 1, "joint_steps": 6, "processes": 2, "check_every": 2}


@pytest.fixture(scope="module")
def unbroken(folders, tmp_path_factory):
    speech, made = folders
    folder = tmp_path_factory.mktemp("unbroken")
    in_two(lambda _: fitted(speech, made / "noisy", folder / "run", tiny(**KILLED)), folder / "log")
    return (folder / "run" / WEIGHTS).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_when_one_process_is_killed_the_other_ends_and_the_last_checkpoint_is_kept(folders, unbroken, tmp_path, killed):
    speech, made = folders
    settings, out = tiny(**KILLED), tmp_path / "run"

    def run(number):
        def kill(stage, step, *_):
            if (stage, step) == ("joint stage", 5) and number == 0:
                os.kill(os.getpid() if killed == 0 else int((tmp_path / "1").read_text()), signal.SIGKILL)

        (tmp_path / str(number)).write_text(str(os.getpid()))
        fitted(speech, made / "noisy", out, settings, kill)

    processes = forked(run, tmp_path / "log")
    codes = [ended(process) for process in processes]
    assert codes[killed] == -signal.SIGKILL
    assert codes[1 - killed] == 3
    assert step_of(newest_checkpoint(out / "stages" / "joint")) == 4
    in_two(lambda _: fitted(speech, made / "noisy", out, settings), tmp_path / "log")
    assert (out / WEIGHTS).read_bytes() == unbroken


def test_who_is_who(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert rank(2) == 1
    assert rank(1) == 0  # somebody else's variable
    monkeypatch.delenv("LOCAL_RANK")
    assert rank(2) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
def test_a_command_ends_with_all_its_processes(folders, tmp_path, name):
    speech, made = folders
    config, out = tmp_path / "tiny.yaml", tmp_path / "run"
    config.write_text(dump_settings(tiny(joint_steps=100_000, check_every=1)))
    line = ("train", "--speech", speech, "--mixtures", made / "noisy", "--config", config, "-o", out, "--processes", 2)
    command = [sys.executable, "-m", "sottovoce", *map(str, line)]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        limit = time.monotonic() + 300
        while newest_checkpoint(out / "stages" / "joint") is None:
            assert process.poll() is None
            assert time.monotonic() < limit
            time.sleep(0.05)
        assert len(in_group(process.pid)) >= 2
        process.send_signal(getattr(signal, name))
        _, errors = process.communicate()
    limit = time.monotonic() + 60
    while in_group(process.pid):
        assert time.monotonic() < limit
        time.sleep(0.05)
    assert newest_checkpoint(out / "stages" / "joint") is not None
    assert not any(word in errors for word in ("Traceback", "Warning", "Error"))
    if name == "SIGTERM":
        assert process.returncode == 143
        assert errors.count("interrupted") == 1
