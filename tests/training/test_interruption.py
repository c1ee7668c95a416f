"""Trainings and adaptations that are stopped by real signals in every phase, in processes of their own."""

import contextlib
import os
import signal
import sys
import time
import traceback
import warnings

import pytest

from sottovoce import cli, terminal
from sottovoce.config import dump_settings
from sottovoce.models.checkpoint import save_checkpoint
from sottovoce.training import run as run_module
from sottovoce.training.run import untrained
from sottovoce.training.saved import saved_until, step_of

from .conftest import in_group, tiny

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")

SIGNALS = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}
NOTHING = "nothing of the training is saved yet: the same command starts from the beginning"


class Command:
    """A command in a forked process, which has all imports already, and in a group of its own, as a shell gives it.

    Args:
        arguments: Command line.
        errors: File for what it prints to standard error.
        phase: Where it waits for a signal: the beginning of a task's name, or "export", which goes on.
    """

    def __init__(self, arguments, errors, phase):
        self.errors = errors
        reached, report = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
            self.process = os.fork()
        if not self.process:
            code = 70
            try:
                code = self._run(arguments, phase, report)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(report)
        with os.fdopen(reached, "rb") as pipe:
            assert pipe.read(1), errors.read_text()

    def _run(self, arguments, phase, report):
        os.setpgid(0, 0)
        sys.stderr = self.errors.open("w", buffering=1)
        os.dup2(sys.stderr.fileno(), 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.argv = ["sottovoce", *map(str, arguments)]

        @contextlib.contextmanager
        def progress():
            yield lambda task, done, *_: wait() if task.startswith(phase) and done else None

        def wait():
            os.write(report, b".")
            if not phase.endswith("stage"):  # these have many steps
                time.sleep(60)

        def export(*system):
            os.write(report, b".")
            exported(*system)

        exported = run_module.export_model
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(terminal, "progress", progress)
            if phase == "export":
                patch.setattr(run_module, "export_model", export)
            code = cli.main()
        # As the interpreter does at its end.
        sys.stderr.flush()
        return code

    def stopped_by(self, name):
        """Send a signal to the group, as a terminal does; give exit code and the lines of standard error."""
        os.killpg(self.process, getattr(signal, name))
        code = os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])
        assert not in_group(self.process)
        return code, self.errors.read_text().splitlines()


@pytest.fixture
def train(folders, tmp_path):
    """The command that trains a tiny system in `tmp_path / "run"`."""
    speech, made = folders
    config = tmp_path / "tiny.yaml"

    def line(**changes):
        config.write_text(dump_settings(tiny(**changes)))
        return "train", "--speech", speech, "--mixtures", made / "noisy", "--config", config, "-o", tmp_path / "run"

    return line


@pytest.mark.parametrize(
    ("phase", "name"),
    [("looking at", "SIGINT"), ("finding noise-only", "SIGTERM"), ("simulating rooms", "SIGHUP")],
)
def test_before_the_first_step_nothing_is_saved(train, tmp_path, phase, name):
    code, errors = Command(train(), tmp_path / "errors", phase).stopped_by(name)
    assert code == SIGNALS[name]
    assert errors[-1] == f"sottovoce: interrupted: {NOTHING}"
    assert not any("Traceback" in line for line in errors)
    assert not list((tmp_path / "run").rglob(".*"))

    code, errors = Command(train(), tmp_path / "errors", "looking at").stopped_by(name)
    assert errors[0] == "sottovoce: nothing of the training was saved: starting from the beginning"


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(("stage", "name"), [("speech", "SIGTERM"), ("joint", "SIGINT")])
def test_a_stage_is_saved_after_a_whole_step(train, tmp_path, stage, name):
    steps = {"speech_steps": 1, "joint_steps": 1, f"{stage}_steps": 100_000}
    line = train(**steps, check_every=100_000, data={"workers": 1})
    code, errors = Command(line, tmp_path / "errors", f"{stage} stage").stopped_by(name)
    assert code == SIGNALS[name]
    (checkpoint,) = (tmp_path / "run" / "stages" / stage).iterdir()
    until = f"step {step_of(checkpoint)} of the {stage} stage"
    assert saved_until(tmp_path / "run") == until
    assert errors[-1] == (
        f"sottovoce: interrupted: the training is saved in {tmp_path / 'run'} up to {until}: the same command goes on "
        "from there"
    )
    assert not any("Traceback" in line for line in errors)

    code, errors = Command(line, tmp_path / "errors", f"{stage} stage").stopped_by(name)
    assert code == SIGNALS[name]
    assert errors[0] == f"sottovoce: going on from {until}"
    (later,) = (tmp_path / "run" / "stages" / stage).iterdir()
    assert step_of(later) > step_of(checkpoint)


@pytest.mark.usefixtures("undrawn")
def test_in_the_export_the_training_is_saved(train, tmp_path):
    line = train(speech_steps=1, joint_steps=1)
    code, errors = Command(line, tmp_path / "errors", "export").stopped_by("SIGTERM")
    assert code == 143
    assert errors[-1].startswith(f"sottovoce: interrupted: the training is saved in {tmp_path / 'run'} up to the end")
    assert (tmp_path / "run" / "checkpoint.safetensors").exists()
    assert not (tmp_path / "run" / "model.onnx").exists()
    assert not list((tmp_path / "run").rglob(".*"))


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(("phase", "name"), [("cutting excerpts", "SIGHUP"), ("joint stage", "SIGTERM")])
def test_an_adaptation_is_stopped_in_the_same_way(folders, tmp_path, phase, name):
    speech, made = folders
    old, out = tmp_path / "old.safetensors", tmp_path / "run"
    save_checkpoint(old, untrained(tiny()), tiny())
    line = ("adapt", "--mixtures", made / "noisy", "--speech", speech, "--model", old, "--steps", 100_000, "-o", out)
    code, errors = Command(line, tmp_path / "errors", phase).stopped_by(name)
    assert code == SIGNALS[name]
    kept = NOTHING
    if phase == "joint stage":
        (checkpoint,) = (out / "stages" / "joint").iterdir()
        until = f"step {step_of(checkpoint)} of the joint stage"
        kept = f"the training is saved in {out} up to {until}: the same command goes on from there"
    assert errors[-1] == f"sottovoce: interrupted: {kept}"
    assert not any("Traceback" in line for line in errors)
    assert not list(out.rglob(".*"))
