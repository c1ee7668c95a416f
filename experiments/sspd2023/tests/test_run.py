"""Benchmarks of tiny systems: trained once, cached, resumable after any kill, the same in one process or in two."""

import dataclasses
import json
import math
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("lightning")
pytest.importorskip("pystoi")

from tests.metrics.quick_dnsmos import quick_dnsmos
from tests.training.conftest import in_group
from torch import nn

from sottovoce.config import changed, dump_settings
from sottovoce.errors import DataError
from sottovoce.models.checkpoint import save_checkpoint
from sspd2023 import experiment
from sspd2023 import run as run_module
from sspd2023.baselines import build_network
from sspd2023.protocol import Counts, build
from sspd2023.results import Summary, to_csv
from sspd2023.settings import ExperimentSettings
from sspd2023.split import Sources
from sspd2023.systems import SYSTEMS

from .corpora import make_noise, make_rooms, make_speech
from .systems import TINY

pytestmark = pytest.mark.slow  # all of them share trainings

COUNTS = Counts(3, 2.0, 4, 2.0, 2, 1.25, (0.0, 5.0))
ROWS = ("unprocessed", "joint", "irm", "oracle_irm", "joint_ceiling")
FEW = ("unprocessed", "joint")


def tiny(**change):
    training = TINY["training"] | {"speech_steps": 2, "joint_steps": 2}
    pairs = {"pairs": "as recorded"} if "baseline" in change else {}
    return ExperimentSettings.model_validate(TINY | {"training": training} | pairs | change)


SYSTEM_SETTINGS = {"poster_cpu": tiny(), "baselines/irm": tiny(name="irm", baseline={"kind": "masking"})}


@pytest.fixture(scope="module", autouse=True)
def rated_quickly(tmp_path_factory):
    with quick_dnsmos(tmp_path_factory.mktemp("ratings")):
        yield


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpora")
    make_speech(folder / "speech", 6, 3)
    make_noise(folder / "noise", 3)
    make_rooms(folder / "rooms", 3)
    return folder


@pytest.fixture(scope="module")
def protocols(corpora, tmp_path_factory):
    folder = tmp_path_factory.mktemp("protocol")
    sources = Sources(*(run_scan(corpora / name) for name in ("speech", "noise", "rooms")))
    return [build(sources, name, COUNTS, folder, 1) for name in ("poster", "matched")]


def run_scan(folder):
    from sottovoce.data.corpora.manifest import scan

    return scan(folder, min_seconds=0.01)


def run(protocols, folder, rows=ROWS, seeds=(1, 2), **options):
    return run_module.run(protocols, rows, seeds, SYSTEM_SETTINGS, folder, **options)


@pytest.fixture(scope="module")
def finished(protocols, tmp_path_factory):
    folder, reported = tmp_path_factory.mktemp("benchmark"), []
    outcome = run(protocols, folder, on_progress=lambda *progress: reported.append(progress))
    return outcome, folder, reported


@pytest.fixture(scope="module")
def scored(protocols, tmp_path_factory):
    """A small benchmark without trainings, and what it found; a new one has nothing to go on from."""
    folder, warnings = tmp_path_factory.mktemp("scored"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module._log, "warning", lambda *message: warnings.append(message))
        outcome = run(protocols[:1], folder, rows=("unprocessed", "oracle_irm"), seeds=(1,))
    assert warnings == []
    return folder, outcome


@pytest.fixture
def goes_on(protocols, scored, tmp_path):
    """Runs that benchmark once more in a copy of its folder, which is given."""
    shutil.copytree(scored[0], tmp_path, dirs_exist_ok=True)
    return tmp_path, lambda: run(protocols[:1], tmp_path, rows=("unprocessed", "oracle_irm"), seeds=(1,))


def test_every_row_is_there(finished):
    outcome, _, reported = finished
    counts = {
        (condition, row): sum(r.condition == condition and r.system == row for r in outcome.results)
        for condition in ("poster", "matched")
        for row in ROWS
    }
    assert counts == {
        (condition, row): 2 * len(SYSTEMS[row].seeds((1, 2))) for condition in ("poster", "matched") for row in ROWS
    }
    assert {cost.system for cost in outcome.costs} == set(ROWS)
    assert all(cost.cpu_seconds_per_second >= 0 for cost in outcome.costs)
    last = {task: (done, total) for task, done, total in reported}
    assert last == {"training": (16, 16), "scoring": (28, 28)}


def test_a_system_is_trained_once_for_both_conditions_and_its_ceiling(finished):
    _, folder, _ = finished
    assert sorted(path.name.rsplit("-", 1)[0] for path in (folder / "systems").iterdir()) == [
        "irm-1",
        "irm-2",
        "tiny-1",
        "tiny-2",
    ]


def test_a_benchmark_that_goes_on_says_where(goes_on, caplog):
    folder, again = goes_on
    next((folder / "scores").glob("oracle_irm*")).unlink()
    again()
    (record,) = caplog.records
    assert record.getMessage() == f"going on in {folder}: 0 of 0 steps of training and 2 of 4 scores are saved"
    assert record.name.startswith("sottovoce.")  # commands print what this log says


def test_steps_of_an_interrupted_stage_are_saved_as_well(protocols, tmp_path):
    (training,) = run_module.plan_trainings(protocols[:1], ("joint",), (1,), SYSTEM_SETTINGS, tmp_path).values()
    assert training.steps_saved() == {"speech": 0, "joint": 0}
    for name in ("speech/finished.pt", "joint/step=1.ckpt"):
        path = training.folder / "stages" / name
        path.parent.mkdir(parents=True)
        path.touch()
    assert training.steps_saved() == {"speech": 2, "joint": 1}


def test_what_is_done_is_not_done_again(protocols, finished):
    outcome, folder, _ = finished
    written = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    assert run(protocols, folder) == outcome
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == written


def test_networks_that_were_kept_are_scored_once(protocols, finished):
    outcome, folder, _ = finished
    trainings = run_module.plan_trainings(protocols[:1], FEW, (1, 2), SYSTEM_SETTINGS, folder)
    reported = []
    kept = run_module.score_kept(trainings, folder, on_progress=lambda *progress: reported.append(progress))
    assert reported[-1] == ("scoring", 4, 4)
    assert {steps: [(r.system, r.seed, r.file) for r in results] for steps, results in kept.items()} == {
        1: [("joint", seed, file) for seed in (1, 2) for file in ("0", "1")]
    }
    finished_scores = {
        (r.seed, r.file): r.scores for r in outcome.results if (r.condition, r.system) == ("poster", "joint")
    }
    assert all(r.scores != finished_scores[r.seed, r.file] for r in kept[1])
    reported.clear()
    assert run_module.score_kept(trainings, folder, on_progress=lambda *progress: reported.append(progress)) == kept
    assert not reported


def test_oracle_and_seeds_mean_what_they_say(finished):
    outcome, _, _ = finished
    by_row = {row: [r.scores.si_sdr_db for r in outcome.results if r.system == row] for row in ROWS}
    assert all(oracle > noisy for oracle, noisy in zip(by_row["oracle_irm"], by_row["unprocessed"], strict=True))
    joint = [r for r in outcome.results if r.system == "joint" and r.condition == "poster"]
    assert {r.seed for r in joint} == {1, 2}
    assert len({r.scores.si_sdr_db for r in joint}) == 4


def some(outcome):
    """What a smaller benchmark finds: two rows, one condition, one seed."""
    return [r for r in outcome.results if r.condition == "poster" and r.system in FEW and r.seed in (None, 1)]


def test_two_processes_give_the_table_of_one(protocols, finished, tmp_path):
    outcome, _, _ = finished
    again = run(protocols[:1], tmp_path, rows=FEW, seeds=(1,), jobs=2)
    assert to_csv(again.results) == to_csv(some(outcome))


def test_a_benchmark_that_is_stopped_and_killed_ends_like_an_unbroken_one(corpora, protocols, finished, tmp_path):
    outcome, _, _ = finished
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "from sspd2023.protocol import Counts, build\n"
        "from sspd2023.run import run\n"
        "from sspd2023.split import Sources\n"
        "from sottovoce.config import load_settings_as\n"
        "from sspd2023.settings import ExperimentSettings\n"
        "from sottovoce import interruption\n"
        "from sottovoce.data.corpora.manifest import scan\n"
        "if __name__ == '__main__':\n"
        f"    corpora, protocol, out = Path({str(corpora)!r}), Path({str(protocols[0].folder)!r}), Path(sys.argv[1])\n"
        "    sources = Sources(*(scan(corpora / n, min_seconds=0.01) for n in ('speech', 'noise', 'rooms')))\n"
        f"    protocols = [build(sources, 'poster', {COUNTS!r}, protocol, 1)]\n"
        "    settings = {n: load_settings_as(ExperimentSettings, Path(sys.argv[2]) / f) for n, f in\n"
        "                (('poster_cpu', 'joint.yaml'), ('baselines/irm', 'irm.yaml'))}\n"
        "    try:\n"
        "        with interruption.raised():\n"
        f"            run(protocols, {FEW!r}, (1,), settings, out)\n"
        "    except KeyboardInterrupt as stopped:\n"
        "        print(*stopped.__notes__, file=sys.stderr)\n"
        "        sys.exit(interruption.exit_code(stopped))\n"
    )
    for name, settings in (
        ("joint.yaml", SYSTEM_SETTINGS["poster_cpu"]),
        ("irm.yaml", SYSTEM_SETTINGS["baselines/irm"]),
    ):
        (tmp_path / name).write_text(dump_settings(settings))
    out = tmp_path / "out"
    for progress, number in (("systems/*/stages/*/*", signal.SIGINT), ("scores/*.jsonl", signal.SIGKILL)):
        command = [sys.executable, str(script), str(out), str(tmp_path)]
        with (tmp_path / "errors").open("wb") as errors:
            process = subprocess.Popen(command, start_new_session=True, stderr=errors)
        deadline = time.monotonic() + 300
        while not any(path.stat().st_size for path in out.glob(progress)):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.killpg(process.pid, number)
        assert process.wait(300) in (128 + number, -number)
        if number == signal.SIGINT:
            saved = re.escape(f" scores are saved in {out}: the same command goes on from there")
            # Before the last line, a warning of what the recordings lack.
            *_, reported = (tmp_path / "errors").read_text().splitlines()
            assert re.fullmatch(rf"\d+ of \d+ steps of training and \d+ of \d+{saved}", reported)
            assert not in_group(process.pid)
    assert to_csv(run(protocols[:1], out, rows=FEW, seeds=(1,)).results) == to_csv(some(outcome))


def test_a_cut_line_is_scored_again(scored, goes_on):
    folder, again = goes_on
    table = next((folder / "scores").glob("oracle_irm*"))
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(lines[:-1]) + lines[-1][:20])
    assert to_csv(again().results) == to_csv(scored[1].results)
    assert len([json.loads(line) for line in table.read_text().splitlines()]) == 2


def test_processes_end_with_their_parent(protocols, tmp_path):
    """A benchmark that is killed leaves nobody who goes on in its folder."""
    code = "from sspd2023.run import _begin; import time; _begin(None, None, {parent}); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code.format(parent=1234567)])
    assert process.wait(timeout=30) == 1


def test_a_process_that_dies_is_reported_in_a_sentence(protocols, tmp_path):
    def kill(*_):
        for child in multiprocessing.active_children():
            os.kill(child.pid, signal.SIGKILL)

    with pytest.raises(DataError, match="fewer jobs"):
        run(protocols[:1], tmp_path, rows=FEW, seeds=(1,), on_progress=kill)


def test_a_row_that_fails_is_reported_and_the_others_are_kept(protocols, tmp_path):
    settings = {"poster_cpu": tiny(), "baselines/irm": tiny(name="irm", baseline={"kind": "masking"})}
    broken = settings["poster_cpu"]
    rooms = {"training": {"data": {"simulation": {"room": {"t60_seconds": (0.001, 0.002)}}}}}
    settings["poster_cpu"] = changed(broken, rooms, "a test")
    rows = ("unprocessed", "joint", "irm")
    with pytest.raises(DataError, match=r"1 tasks that failed, the first: tiny-1.*no room of usual size"):
        run_module.run(protocols[:1], rows, (1,), settings, tmp_path)
    assert len(list((tmp_path / "scores").glob("irm-*.jsonl"))) == 1


def test_a_training_that_diverges_is_a_row_without_scores(protocols, tmp_path):
    for training in run_module.plan_trainings(protocols[:1], FEW, (1, 2), SYSTEM_SETTINGS, tmp_path).values():
        training.folder.mkdir(parents=True)
        network = build_network(training.settings)
        for parameter in network.parameters():
            nn.init.constant_(parameter, math.nan)
        save_checkpoint(training.checkpoint, network, training.settings)
    outcome = run(protocols[:1], tmp_path, FEW)
    joint = [result for result in outcome.results if result.system == "joint"]
    assert len(joint) == 4
    assert all(math.isnan(value) for result in joint for value in dataclasses.astuple(result.scores))
    sentences = experiment._undefined(outcome)
    assert [sentence.split(":")[0] for sentence in sentences] == ["joint (poster), seed 1", "joint (poster), seed 2"]
    rows = experiment.report.means_table(Summary(outcome.results), "poster", {"joint": "joint"}, ("estoi",))
    assert rows[1] == ["joint", "undefined"]


def test_what_a_score_depends_on_is_in_its_name(protocols, tmp_path, monkeypatch):
    def names():
        entry = next(run_module._scorings(protocols[0], "default", None, None, tmp_path, first=True))
        return entry.table.name

    first = names()
    assert names() == first
    model = tmp_path / "other.onnx"
    model.write_bytes(b"another model")
    monkeypatch.setitem(SYSTEMS, "default", dataclasses.replace(SYSTEMS["default"], model=model))
    second = names()
    monkeypatch.setattr(run_module, "version", lambda package: "0")
    assert len({first, second, names()}) == 3


def test_sound_that_was_deleted_is_made_again(scored, goes_on):
    _, again = goes_on
    outcome = again()
    assert {test for _, _, test in outcome.audible} == {"0", "1"}
    sound = outcome.audible["poster", "oracle_irm", "0"]
    content = sound.read_bytes()
    sound.unlink()
    assert again().results == outcome.results == scored[1].results
    assert sound.read_bytes() == content


def test_ablations_take_the_first_seed(protocols, tmp_path):
    settings = {"ablations/shift_32": tiny(name="shift_32"), "poster_cpu": tiny()}
    planned = run_module.plan_trainings(protocols, ["joint", "shift_32"], (3, 4), settings, tmp_path)
    assert {(system, seed) for _, system, seed in planned} == {("joint", 3), ("joint", 4), ("shift_32", 3)}
