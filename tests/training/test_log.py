from types import SimpleNamespace

import pytest

from sottovoce.data.corpora.skipped import Skipped
from sottovoce.training.log import SkippedLog, Table, plot_run, read_table


@pytest.fixture
def path(tmp_path):
    """A table of an interrupted run."""
    for stage, steps in (("speech", (5, 10)), ("joint", (5, 10, 15))):
        table = Table(tmp_path / "losses.csv", stage)
        table.keep_until(0)
        for step in steps:
            table.append(step, {"total": step / 7, "cycle" if stage == "joint" else "phase": 1e-9})
    return tmp_path / "losses.csv"


def found(path):
    return [(row["stage"], int(row["step"])) for row in read_table(path)]


def test_stages_follow_each_other(path):
    assert found(path) == [("speech", 5), ("speech", 10), ("joint", 5), ("joint", 10), ("joint", 15)]
    assert path.read_text().splitlines()[0] == "stage,step,total,phase,cycle"
    first, *_, last = read_table(path)
    assert (float(first["total"]), first["cycle"]) == (pytest.approx(5 / 7, rel=1e-5), "")
    assert (last["phase"], last["cycle"]) == ("", "1e-09")


def test_rows_behind_the_checkpoint_are_forgotten(path):
    table = Table(path, "joint")
    table.keep_until(10)
    table.append(12, {"total": 1.0})
    assert found(path) == [("speech", 5), ("speech", 10), ("joint", 5), ("joint", 10), ("joint", 12)]


def test_an_earlier_stage_begins_anew(path):
    table = Table(path, "speech")
    table.keep_until(5, alone=True)
    table.append(6, {"total": 1.0})
    assert found(path) == [("speech", 5), ("speech", 6)]


def test_a_run_without_table_begins_with_none(tmp_path):
    assert read_table(tmp_path / "losses.csv") == []
    table = Table(tmp_path / "losses.csv", "speech")
    table.keep_until(0)
    table.append(1, {"total": 0.5})
    assert found(tmp_path / "losses.csv") == [("speech", 1)]
    assert not list(tmp_path.glob(".*"))


def test_pictures_are_drawn_of_what_there_is(path):
    plot_run(path.parent)
    assert (path.parent / "losses.png").read_bytes().startswith(b"\x89PNG")
    assert not (path.parent / "health.png").exists()
    table = Table(path.with_name("health.csv"), "speech")
    table.append(5, {"noise_attenuation_db": -3.0, "speech_loss_db": 0.0})
    plot_run(path.parent)
    assert (path.parent / "health.png").stat().st_size > 1000


def test_what_is_skipped_is_said_once_and_counted(tmp_path, caplog):
    skipped = Skipped(tmp_path / "skipped.jsonl")
    log = SkippedLog(skipped, 2)
    trainer = SimpleNamespace(global_step=0, accumulate_grad_batches=1, is_global_zero=True)

    def said(step, **changes):
        caplog.clear()
        log.on_train_batch_end(SimpleNamespace(**vars(trainer) | {"global_step": step} | changes), None, None, None, 0)
        return caplog.messages

    assert said(2) == []
    skipped.note("a.wav", "file:///a.wav", "a.wav is damaged")
    skipped.note("a.wav", "file:///a.wav", "a.wav is damaged")
    assert said(3) == said(4, is_global_zero=False) == []
    assert said(4) == ["left out: a.wav is damaged", f"1 recordings could not be used so far: see {skipped.path}"]
    assert said(6) == []
    for number in range(20):
        skipped.note(f"{number}", "file:///", "damaged")
    with skipped.path.open("a") as file:
        file.write('{"id": "cut')
    messages = said(8)
    assert len(messages) == 10
    assert messages[-1].startswith("21 recordings")
