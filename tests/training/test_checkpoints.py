"""Checkpoints by steps, by time and at the end of a process."""

from types import SimpleNamespace

import pytest

pytest.importorskip("lightning")

from sottovoce.training.checkpoints import Checkpoints
from sottovoce.training.saved import newest_checkpoint, saved_until, when_interrupted, when_resumed


def trained(folder, *, seconds_a_step, stop_at=0, steps=10, every=4):
    """Steps of which checkpoints are written in `folder`."""
    time_seconds = 0.0
    stop = SimpleNamespace(heed=lambda: None, is_requested=False)
    checkpoints = Checkpoints(folder, every, stop, clock=lambda: time_seconds)
    trainer = SimpleNamespace(
        should_stop=False,
        save_checkpoint=lambda path: path.write_text(str(step)),
        accumulate_grad_batches=1,
        world_size=1,
        is_global_zero=True,
    )
    checkpoints.on_train_start(trainer, None)
    written = []
    for step in range(1, steps + 1):
        time_seconds += seconds_a_step
        stop.is_requested = step == stop_at
        trainer.global_step = step
        checkpoints.on_train_batch_end(trainer, None, None, None, step - 1)
        (kept,) = folder.glob("*") if folder.exists() and any(folder.iterdir()) else (None,)
        if kept is not None and kept.read_text() == str(step):
            written.append(step)
        if trainer.should_stop:
            break
    return written


@pytest.mark.parametrize(
    ("seconds_a_step", "stop_at", "written"),
    [(1.0, 0, [4, 8]), (50.0, 0, [3, 4, 7, 8]), (200.0, 0, list(range(1, 11))), (1.0, 6, [4, 6]), (1.0, 8, [4, 8])],
)
def test_written_by_steps_by_time_and_at_the_end(tmp_path, seconds_a_step, stop_at, written):
    assert trained(tmp_path / "stage", seconds_a_step=seconds_a_step, stop_at=stop_at) == written


def test_the_newest_one_is_found(tmp_path):
    assert newest_checkpoint(tmp_path) is None
    for step in (9, 10, 2):
        (tmp_path / f"step={step}.ckpt").touch()
    (tmp_path / ".step=11.0123456789abcdef.ckpt").touch()  # cut while it was written
    assert newest_checkpoint(tmp_path) == tmp_path / "step=10.ckpt"


def test_what_is_saved_is_said(tmp_path):
    assert when_resumed(tmp_path / "none") == when_resumed(tmp_path) == ""
    speech, joint = (tmp_path / "stages" / stage for stage in ("speech", "joint"))
    for folder, name, until in (
        (speech, "step=4.ckpt", "step 4 of the speech stage"),
        (speech, "finished.pt", "the end of the speech stage"),
        (joint, "step=12.ckpt", "step 12 of the joint stage"),
        (joint, "finished.pt", "the end of the joint stage"),
    ):
        folder.mkdir(parents=True, exist_ok=True)
        if folder == joint or name == "step=4.ckpt":
            assert until not in when_interrupted(tmp_path)
        (folder / name).touch()
        assert saved_until(tmp_path) == until
        assert when_resumed(tmp_path) == f"going on from {until}"
        assert until in when_interrupted(tmp_path)


def test_a_run_that_has_saved_nothing_is_reported(tmp_path):
    (tmp_path / "settings.yaml").touch()
    assert when_resumed(tmp_path) == "nothing of the training was saved: starting from the beginning"
    assert when_interrupted(tmp_path).startswith("nothing of the training is saved yet")
