import csv
import io
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sottovoce.metrics.report import differences, mean, summarise, table, to_csv, to_markdown
from sottovoce.metrics.scores import MEASURES, FileScores, Scores


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
    assert [row[0].split()[0] for row in [first, *rows]] == list(MEASURES)
    assert {row[0].split()[0] for row in rows if "↓" in row[0]} == {"llr", "wss"}


def test_csv_has_a_line_per_file_and_system():
    rows = list(csv.DictReader(io.StringIO(to_csv(results()))))
    assert list(rows[0]) == ["file", "system", *MEASURES]
    assert [(row["file"], row["system"]) for row in rows] == [(r.file, r.system) for r in results()]
    assert rows[0]["pesq_wb"] == "3.0000"
    assert rows[4]["pesq_wb"] == "undefined"


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
