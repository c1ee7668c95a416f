"""What the report of a search says, and when it says that a gain is more than chance."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("optuna")

import optuna

from sottovoce.metrics.scores import MEASURES as ALL_MEASURES
from sottovoce.metrics.scores import FileScores, Scores
from sottovoce.search.development import MEASURES
from sottovoce.search.report import Outcome, Training, write_report
from sottovoce.search.space import read_space

from ..training.conftest import tiny

KEY = "joint_weights.cycle"
UNDEFINED = Scores(*(math.nan for _ in ALL_MEASURES))


def scores(system, pesq_wb):
    """Scores of four mixtures around a mean."""
    return [
        FileScores(str(index), system, replace(UNDEFINED, pesq_wb=pesq_wb + difference, estoi=0.5, si_sdr_db=3.0))
        for index, difference in enumerate((-0.2, -0.1, 0.1, 0.2))
    ]


def training(name, pesq_wb):
    return Training(Path(name), tiny(), 3_300_000, scores(name, pesq_wb))


def trial(space, number, value, *, state="COMPLETE", pesq_wb=1.1, attributes=None):
    made = optuna.trial.create_trial(
        state=optuna.trial.TrialState[state],
        value=pesq_wb if state == "COMPLETE" else None,
        params={KEY: value},
        distributions=space.distributions(),
        intermediate_values={} if attributes else {3: pesq_wb - 0.05},
        user_attrs=attributes,
    )
    made.number = number
    return made


@pytest.fixture
def outcome(tmp_path):
    (tmp_path / "space.yaml").write_text(f"{KEY}: {{low: 1, high: 100, log: true}}")
    space = read_space(tmp_path / "space.yaml", tiny())
    return Outcome(
        settings=tiny(),
        space=space,
        measure="pesq_wb",
        measures=MEASURES,
        development="some mixtures",
        unprocessed=tuple(scores("unprocessed", 1.0)),
        trials=(
            trial(space, 0, 10.0, pesq_wb=1.10),
            trial(space, 2, 20.0, pesq_wb=1.20),
            trial(space, 3, 30.0, state="PRUNED", pesq_wb=1.05),
            trial(space, 4, 40.0, state="FAIL", attributes={"reason": "silent, all of it"}),
        ),
        values=({KEY: 10.0}, {KEY: 20.0}, {KEY: 30.0}, {KEY: 40.0}),
        trainings={0: training("given", 1.1), 2: training("best", 1.2)},
        best=2,
        importance={KEY: 1.0},
        repeated=(),
    )


def with_seeds(outcome, gains):
    repeated = tuple(
        (seed, training(f"given_{seed}", 1.1 + 0.01 * seed), training(f"best_{seed}", 1.1 + 0.01 * seed + gain))
        for seed, gain in enumerate(gains, start=2)
    )
    return replace(outcome, repeated=repeated)


def test_one_seed_decides_nothing(outcome):
    assert outcome.best_values == {KEY: 20.0}
    assert "+0.100" in outcome.verdict()
    assert "nobody knows whether it is more than chance" in outcome.verdict()


def test_a_gain_with_every_seed_is_more_than_chance(outcome):
    verdict = with_seeds(outcome, (0.10, 0.11, 0.09)).verdict()
    assert "more than chance between seeds, on these mixtures" in verdict
    assert "differ by 0.040 over 4 seeds" in verdict


def test_gains_that_change_with_the_seed_are_chance(outcome):
    assert "not more than chance" in with_seeds(outcome, (0.10, -0.05)).verdict()
    assert "this says little" in with_seeds(outcome, (0.10,)).verdict()


def test_nothing_better_is_said_plainly(outcome):
    assert replace(outcome, best=0).verdict().startswith("No trial is better than the settings as they are")


def test_the_page_has_every_trial(outcome, tmp_path):
    write_report(tmp_path, with_seeds(outcome, (0.10, 0.11)))
    page = (tmp_path / "README.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert any(row.startswith("| unprocessed") and "1.000" in row for row in rows)
    assert any(row.startswith("| **1** | 20.0 | 3.3 | 6 | 1.200") and "+0.100" in row for row in rows)
    assert any(row.startswith("| 2 | 30.0 |  | 3 | cut short at 1.000") for row in rows)
    assert any(row.startswith("| 3 | 40.0 |  | 0 | no score") for row in rows)
    assert any(row.startswith("| 1 (chose the best)") for row in rows)
    table = (tmp_path / "trials.csv").read_text().splitlines()
    assert '3,fail,0,40.0,undefined,,"silent, all of it"' in table
    assert "1,complete,6,20.0,1.2000,," in table
    assert (tmp_path / "curves.png").stat().st_size
    assert (tmp_path / "values.png").stat().st_size
