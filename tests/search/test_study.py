"""Searches of a tiny system on synthetic sound: killed, gone on with, cut short, refused."""

import os
import warnings

import pytest
from filelock import FileLock

pytest.importorskip("optuna")

import optuna

from sottovoce.config import load_settings
from sottovoce.errors import ConfigError, DataError
from sottovoce.search import study as study_module
from sottovoce.search.space import read_space
from sottovoce.search.study import Search, search

from ..training.conftest import tiny, without_pictures

SPACE = """
joint_weights.cycle: {low: 1, high: 100, log: true}
model.mixture_encoder.width: {low: 2, high: 8, step: 2, also: [model.mask.width]}
"""


def searched(folders, out, **options):
    """Search without the pictures of trainings, which take most of the time."""
    speech, made = folders
    settings = tiny(check_every=3, speech_steps=2)
    path = out.with_suffix(".yaml")
    path.write_text(SPACE)
    options = {"trials": 2, "repeats": 1, "measure": "si_sdr_db", **options}
    with without_pictures():
        return search(speech, made / "noisy", out, settings, read_space(path, settings), **options)


def killed(folders, out, how):
    """Begin a search in a process of its own, which ends as by `kill -9`: nothing of it runs any more."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
        process = os.fork()
    if not process:
        try:
            how(lambda **options: searched(folders, out, **options))
        finally:
            os._exit(70)
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == 9


def within_the_second_trial(begin):
    seen = []

    def show(task, done, total, note=""):
        seen.append((task, done))
        if len([each for each in seen if each == ("joint stage", 5)]) == 2:
            os._exit(9)

    begin(on_progress=show)


def before_optuna_knows(begin):
    def tell(*_, **__):
        os._exit(9)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optuna.Study, "tell", tell)
        begin()


@pytest.fixture(scope="module")
def unbroken(folders, tmp_path_factory):
    out = tmp_path_factory.mktemp("searches") / "unbroken"
    return out, searched(folders, out)


@pytest.mark.slow
def test_report_and_settings(unbroken):
    out, outcome = unbroken
    page = (out / "README.md").read_text()
    assert outcome.verdict() in page
    assert all((out / name).stat().st_size for name in ("curves.png", "values.png", "trials.csv", "study.db"))
    best = load_settings(out / "best.yaml")
    assert best.model.mixture_encoder.width == outcome.best_values["model.mixture_encoder.width"]
    assert best.training.data.held_back_share == tiny().training.data.held_back_share
    assert outcome.values[0] == {"joint_weights.cycle": 10.0, "model.mixture_encoder.width": 4}
    assert len({training.folder for training in outcome.trainings.values()}) == 2


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.parametrize("how", [within_the_second_trial, before_optuna_knows])
def test_a_killed_search_ends_as_an_unbroken_one(folders, unbroken, tmp_path, how):
    killed(folders, tmp_path / "out", how)
    searched(folders, tmp_path / "out")
    assert (tmp_path / "out" / "trials.csv").read_text() == (unbroken[0] / "trials.csv").read_text()


@pytest.mark.slow
def test_more_trials_begin_behind_those_that_there_are(folders, unbroken):
    out, before = unbroken
    outcome = searched(folders, out, trials=3, repeats=0)
    assert outcome.values[:2] == before.values
    assert len(outcome.trials) == 3


@pytest.mark.slow
def test_another_search_keeps_out(folders, unbroken):
    out, _ = unbroken
    with pytest.raises(DataError, match=r"found a search with other measure in"):
        searched(folders, out, measure="estoi")
    with FileLock(out / "search.lock"), pytest.raises(DataError, match="another search at work"):
        searched(folders, out)


@pytest.mark.slow
def test_a_trial_behind_the_others_is_cut_short(folders, tmp_path, monkeypatch):
    class Second(optuna.pruners.BasePruner):
        def prune(self, study, trial):
            return trial.number == 1

    monkeypatch.setattr(study_module.optuna.pruners, "MedianPruner", lambda **_: Second())
    outcome = searched(folders, tmp_path / "out", trials=2, repeats=0)
    assert [trial.state.name for trial in outcome.trials] == ["COMPLETE", "PRUNED"]
    assert list(outcome.trials[1].intermediate_values) == [3]
    assert "1 were cut short" in (tmp_path / "out" / "README.md").read_text()


def test_numbers_out_of_range(folders, tmp_path):
    with pytest.raises(ConfigError, match="found 0 trials"):
        searched(folders, tmp_path / "out", trials=0)


def test_a_damaged_study_is_named(tmp_path):
    (tmp_path / "study.db").write_bytes(b"no database, but long enough to look at" * 100)
    with pytest.raises(DataError, match=r"study\.db, which is no study"):
        study_module._study(tmp_path)


def test_without_a_score_of_the_settings_as_they_are_nothing_is_compared():
    failed = optuna.trial.create_trial(state=optuna.trial.TrialState.FAIL, user_attrs={"reason": "silent"})
    with pytest.raises(DataError, match="no score for the settings as they are"):
        study_module._with_first([failed])
    assert study_module._with_first([]) == []


def test_another_seed_keeps_what_was_chosen(tmp_path):
    key = "training.optimiser.learning_rate"
    (tmp_path / "space.yaml").write_text(f"{key}: {{low: 0.0001, high: 0.1, log: true}}")
    shared = Search(tmp_path, tiny(), read_space(tmp_path / "space.yaml", tiny()), "estoi", None, None, None)
    chosen = shared.chosen({key: 0.02}, seed=7)
    assert (chosen.training.optimiser.learning_rate, chosen.training.seed) == (0.02, 7)
    assert shared.folder(chosen) != shared.folder(shared.chosen({key: 0.02}))
