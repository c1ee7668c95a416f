"""Learning curves: one row per number of steps, the unprocessed mixtures beside them, and a line per score."""

import csv
import math

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("scipy")

from sottovoce.metrics.scores import MEASURES, Scores
from sspd2023.curves import write
from sspd2023.results import Result

LABELS = {"sse": "SSE", "joint": "joint (poster)", "cf": "CF"}


def result(system, seed, number, value):
    scores = Scores(**dict.fromkeys(MEASURES, math.nan) | {"estoi": value, "pesq_nb_raw": 1 + value, "covl": 2 + value})
    return Result("poster", system, seed, str(number), 0.0, scores)


def reached(system, value):
    return [result(system, seed, number, value + 0.1 * seed + 0.02 * number) for seed in (0, 1) for number in (0, 1)]


@pytest.fixture
def written(tmp_path):
    by_steps = {10: reached("sse", 0.1) + reached("joint", 0.2), 40: reached("joint", 0.4)}
    unprocessed = [result("unprocessed", None, number, 0.3 if number < 2 else 0.9) for number in range(4)]
    files = write(by_steps, unprocessed, LABELS, ["What was run."], tmp_path)
    return {path.name: path for path in files}


def test_the_page_has_a_row_per_number_of_steps(written):
    lines = written["curves.md"].read_text(encoding="utf-8").splitlines()
    assert "- What was run." in lines
    assert "`poster`, 2 mixtures." in lines
    rows = [line for line in lines if line.startswith("| ")]
    assert [row.split(" | ")[:3] for row in rows[2:]] == [
        # Mixtures without a point on the curves are left out of the unprocessed mean.
        ["| unprocessed", "", "0.300 ± 0.000"],
        ["| SSE", "10", "0.160 ± 0.127"],
        ["| joint (poster)", "10", "0.260 ± 0.127"],
        ["| joint (poster)", "40", "0.460 ± 0.127"],
    ]


def test_every_score_is_a_line(written):
    with written["curves.csv"].open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 12
    assert (lines[-1]["steps_of_last_stage"], lines[-1]["system"], lines[-1]["seed"], lines[-1]["estoi"]) == (
        *("40", "joint", "1"),
        "0.5200",
    )


def test_the_figure_is_drawn(written):
    assert written["poster_curves.png"].stat().st_size > 10_000
