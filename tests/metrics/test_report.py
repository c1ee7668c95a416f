import csv
import io
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sottovoce.errors import DataError
from sottovoce.metrics.report import (
    Mean,
    differences,
    mean,
    read_score_csv,
    score_csv,
    summarise,
    table,
    to_csv,
    to_markdown,
)
from sottovoce.metrics.scores import MEASURE_NAMES, MEASURES, FileScores, Scores

ROOT = Path(__file__).parents[2]
COLUMNS = ("file", "system")


def results():
    base = Scores(*(1.0 + index for index in range(len(MEASURES))))
    undefined = replace(base, pesq_wb=math.nan)
    return [
        FileScores("a", "estimate", replace(base, pesq_wb=3.0)),
        FileScores("a", "unprocessed", replace(base, pesq_wb=2.0)),
        FileScores("b", "estimate", replace(base, pesq_wb=5.0)),
        FileScores("b", "unprocessed", replace(base, pesq_wb=2.5)),
        FileScores("c", "estimate", undefined),
        FileScores("c", "unprocessed", replace(base, pesq_wb=1.5)),
    ]


def test_interval_is_students_t():
    # scipy.stats.t.interval(0.95, 3, loc=2.5, scale=scipy.stats.sem([1, 2, 3, 4])) = 0.4457, 4.5543
    summary = mean([1.0, 2.0, 3.0, 4.0])
    assert summary.value == 2.5
    assert summary.half_width == pytest.approx(2.0543, abs=1e-4)


def test_undefined_values_are_left_out_and_counted():
    summary = mean([1.0, math.nan, 3.0])
    assert (summary.value, summary.defined, summary.undefined) == (2.0, 2, 1)
    assert str(summary).endswith("(1 undefined)")


def test_too_few_values_have_no_interval():
    assert str(mean([1.5])) == "1.500"
    assert str(mean([])) == "undefined"
    assert str(mean([math.nan, math.nan])) == "undefined"


@pytest.mark.parametrize(
    ("value", "spec", "text"),
    [
        (1.2345, ".2f", "1.23 ± 0.50"),
        (1.2345, "+.3f", "+1.234 ± 0.500"),
        (-1.2345, "+.3f", "−1.234 ± 0.500"),
        (-1.2345, "", "−1.234 ± 0.500"),
    ],
)
def test_means_are_written_with_the_asked_digits_and_a_true_minus(value, spec, text):
    assert format(Mean(value, 0.5, 4, 0), spec) == text
    assert format(Mean(value, 0.5, 4, 2), spec) == f"{text} (2 undefined)"
    assert format(Mean(value, math.nan, 1, 0), spec) == text.split()[0]
    assert format(Mean(math.nan, math.nan, 0, 4), spec) == "undefined"


@given(st.integers(0, 10_000))
@settings(derandomize=True, deadline=None, max_examples=5)
def test_interval_holds_the_true_mean_95_times_in_100(seed):
    generator = np.random.default_rng(seed)
    summaries = [mean(list(generator.normal(1.0, 2.0, size=6))) for _ in range(400)]
    share = np.mean([abs(summary.value - 1.0) <= summary.half_width for summary in summaries])
    assert 0.9 < share < 0.99


def test_summary_and_paired_differences():
    means = summarise(results())
    assert list(means) == ["estimate", "unprocessed"]
    assert means["estimate"]["pesq_wb"].value == 4.0
    assert means["unprocessed"]["pesq_wb"].value == 2.0
    gain = differences(results(), "estimate", "unprocessed")["pesq_wb"]
    assert (gain.value, gain.defined, gain.undefined) == (1.75, 2, 1)


def test_table_stands_the_unprocessed_beside():
    heading, first, *rows = table(results())
    assert heading == ["measure", "unprocessed", "estimate", "estimate − unprocessed"]
    assert first[0] == "pesq_wb ↑"
    assert first[2].startswith("4.000 ± ")
    assert first[3].startswith("+1.750 ± ")
    assert [row[0].split()[0] for row in [first, *rows]] == list(MEASURES)
    assert {row[0].split()[0] for row in rows if "↓" in row[0]} == {"llr", "wss"}


def test_csv_has_a_line_per_file_and_system():
    rows = list(csv.DictReader(io.StringIO(to_csv(results()))))
    assert list(rows[0]) == ["file", "system", *MEASURES]
    assert [(row["file"], row["system"]) for row in rows] == [(r.file, r.system) for r in results()]
    assert rows[0]["pesq_wb"] == "3.0000"
    assert rows[4]["pesq_wb"] == "undefined"


def as_result(whose, scores):
    file, system = whose
    return FileScores(file, system, scores)


def test_scores_that_are_read_are_those_that_were_written():
    read = read_score_csv(to_csv(results()), COLUMNS, as_result)
    assert read[:4] == results()[:4]
    assert math.isnan(read[4].scores.pesq_wb)
    assert to_csv(read) == to_csv(results())


def test_an_empty_cell_of_an_older_table_is_an_undefined_score():
    older = to_csv(results()).replace("undefined", "")
    assert to_csv(read_score_csv(older, COLUMNS, as_result)) == to_csv(results())


@pytest.mark.parametrize("text", ["", "file\n", to_csv(results(), ["stoi"])])
def test_a_table_of_other_columns_is_refused(text):
    with pytest.raises(DataError, match=r"expected file, system, pesq_wb, .*: make it again"):
        read_score_csv(text, COLUMNS, as_result)


@pytest.mark.parametrize("damaged", ["a,estimate,3.0000,2.0", "a,estimate,3.0000" + ",good" * (len(MEASURES) - 1), "a"])
def test_a_damaged_line_is_named(damaged):
    text = to_csv(results()[:1]) + damaged
    with pytest.raises(DataError, match="damaged line 3 in a table of scores"):
        read_score_csv(text, COLUMNS, as_result)


@pytest.mark.parametrize(
    "path", [*sorted((ROOT / "benchmarks" / "results").glob("*/scores.csv")), ROOT / "docs" / "results" / "main.csv"]
)
def test_committed_tables_are_written_in_the_same_way(path):
    text = path.read_text(encoding="utf-8")
    columns = text.partition(",pesq_wb,")[0].split(",")
    lines = read_score_csv(text, columns, lambda *line: line)
    assert lines
    assert score_csv(columns, lines) == text


def test_every_measure_has_a_name_of_its_own():
    assert list(MEASURE_NAMES) == list(MEASURES)
    assert len(set(MEASURE_NAMES.values())) == len(MEASURES)


def test_markdown_has_means_notes_and_files():
    text = to_markdown(results(), notes=["Something is missing."])
    assert "Mean of 3 file(s) with the 95 % confidence interval" in text
    assert "| measure | unprocessed | estimate | estimate − unprocessed |" in text
    assert "Note: Something is missing." in text
    assert "| c | estimate | undefined | 2.0000 |" in text
    assert max(line.count("|") for line in text.splitlines()) == len(MEASURES) + 3


def test_names_stay_in_their_cells_and_are_no_markup():
    nasty = "a|b<script>\n\x1b[31m&\udcff"
    text = to_markdown([replace(result, file=nasty) for result in results()], notes=[f"{nasty} is silent."])
    assert r"| a\|b&lt;script&gt;\n\x1b[31m&amp;\udcff | estimate |" in text
    assert r"Note: a\|b&lt;script&gt;\n\x1b[31m&amp;\udcff is silent." in text
    text.encode()
