import math
import random
import statistics
from dataclasses import replace

import pytest

from sottovoce.metrics.report import Mean
from sottovoce.metrics.scores import MEASURES, Scores
from sspd2023 import report
from sspd2023.published import POSTER
from sspd2023.results import Cost, Facts, Result, Summary

LABELS = {"unprocessed": "mixture", "sse": "SSE", "joint": "joint (poster)", "absent": "absent"}
POSTER_COLUMNS = ("pesq_wb", "csig", "cbak", "covl")
PAIRS = [("joint", "sse"), ("joint", "unprocessed"), ("absent", "sse")]
LIFT = {"unprocessed": 0.0, "sse": 0.0, "joint": 0.5, "no_mask": 0.25}


def results(conditions=("poster", "matched")):
    """Scores of four mixtures per SNR: `joint` is half a point above the mixture, and a quarter more if matched."""
    scored = []
    for condition in conditions:
        for index in range(12):
            snr_db = (-5.0, 0.0, 5.0)[index % 3]
            for system, lift in LIFT.items():
                for seed in (1, 2) if system in ("joint", "no_mask") else (None,):
                    jitter = 0.02 * ((index + len(system)) % 2) + 0.1 * ((seed or 1) - 1)
                    bonus = 0.25 if condition == "matched" and system == "joint" else 0.0
                    scores = Scores(*(2.0 + snr_db / 10 + index / 20 + lift + bonus + jitter for _ in MEASURES))
                    scored.append(Result(condition, system, seed, str(index), snr_db, scores))
    return scored


def markdown(scored):
    return report.to_markdown(
        scored,
        LABELS,
        pairs=PAIRS,
        facts={"joint": Facts("unpaired recordings", 1234567), "no_mask": Facts("pairs", None)},
        ablations={"no_mask": "no mask", "joint": "whole"},
        ablation_pairs=[("no_mask", "joint")],
        ablation_seed=1,
        notes=["Two seeds.", "Scaled down."],
    )


def test_the_posters_table_has_the_published_rows_below_ours():
    heading, *rows = report.snr_table(Summary(results()), "poster", LABELS, POSTER_COLUMNS)
    assert heading[:5] == ["system", "PESQ wb −5", "PESQ wb 0", "PESQ wb 5", "CSIG −5"]
    names = ["mixture", "SSE", "SSE, published", "joint (poster)", "joint (poster), published"]
    assert [row[0] for row in rows] == names
    assert rows[4][1:] == [f"{value:.2f}" for values in POSTER["joint"].values() for value in values]
    # At -5 dB the mixtures 0, 3, 6 and 9: 1.5 + (0.0 + 0.15 + 0.3 + 0.45) / 4 + jitter 0.02 every second time.
    # Student's t of 3 degrees of freedom: 3.182 standard deviations of these four over 2.
    half_width = 3.182 * statistics.stdev([0.02, 0.15, 0.32, 0.45]) / 2
    assert rows[0][1] == f"{1.5 + 0.225 + 0.01:.2f} ± {half_width:.2f}"
    assert {len(row) for row in rows} == {13}


def test_published_rows_stand_with_the_posters_condition_and_ratios_alone():
    matched = report.snr_table(Summary(results()), "matched", LABELS, POSTER_COLUMNS)
    assert [row[0] for row in matched[1:]] == ["mixture", "SSE", "joint (poster)"]
    other = [replace(entry, snr_db=10.0) for entry in results()]
    assert report.snr_table(Summary(other), "poster", LABELS, POSTER_COLUMNS)[3] == ["SSE, published", *["–"] * 4]


def test_some_undefined_values_are_counted():
    first, *rest = (entry for entry in results() if entry.system == "sse" and entry.snr_db == 0.0)
    undefined = [replace(first, scores=replace(first.scores, covl=math.nan)), *rest]
    (cell,) = report.snr_table(Summary(undefined), "poster", {"sse": "SSE"}, ("covl",))[1][1:]
    assert cell.endswith("(1 undefined)")


def test_systems_say_what_they_learned_from():
    rows = report.systems_table({"joint": "B", "sse": "A"}, {"joint": Facts("pairs", 1234), "sse": Facts("–", None)})
    assert rows == [["system", "learned from", "parameters"], ["B", "pairs", "1,234"], ["A", "–", "–"]]


def test_ablations_are_compared_at_their_seed():
    text = markdown(results())
    ablations = text[text.index("### Ablations, one seed") :]
    single, both = (Summary([e for e in results() if e.seed in seeds]) for seeds in ((1,), (1, 2)))
    assert f"| whole | {single.mean('poster', 'joint', 'pesq_nb_raw')} |" in ablations
    assert f"| whole | {both.mean('poster', 'joint', 'pesq_nb_raw')} |" not in ablations
    assert "| no mask − whole | −0.2" in ablations


def test_means_follow_the_order_of_the_labels():
    rows = report.means_table(Summary(results()), "poster", {"joint": "B", "sse": "A"}, ("estoi", "si_sdr_db"))
    assert rows[0] == ["system", "ESTOI", "SI-SDR in dB"]
    assert [row[0] for row in rows[1:]] == ["B", "A"]
    assert rows[1][1].startswith("2.835 ± ")  # 2 + 0.275 + 0.5 and on average 0.06 of jitter


def test_undefined_means_are_reported():
    undefined = [
        replace(entry, scores=replace(entry.scores, covl=math.nan)) if entry.system == "sse" else entry
        for entry in results()
    ]
    summary = Summary(undefined)
    assert report.means_table(summary, "poster", {"sse": "SSE"}, ("covl",))[1] == ["SSE", "undefined"]
    assert report.snr_table(summary, "poster", {"sse": "SSE"}, POSTER_COLUMNS)[1][-3:] == ["undefined"] * 3
    differences = report.differences_table(summary, "poster", LABELS, [("joint", "sse")], "covl")
    assert differences[1][1:] == ["undefined", "inconclusive"] * 4


def test_spread_is_of_trained_systems():
    heading, row = report.spread_table(Summary(results()), "poster", LABELS)
    assert heading == ["system", "seeds", "PESQ nb-raw, spread", "COVL, spread"]
    assert row == ["joint (poster)", "2", "0.071", "0.071"]  # seeds 0.1 apart: 0.1 / sqrt(2)
    assert report.spread_table(Summary(results()), "poster", {"sse": "SSE"})[1:] == []
    alone = Summary([entry for entry in results() if entry.seed != 2])
    assert report.spread_table(alone, "poster", LABELS)[1] == ["joint (poster)", "1", "–", "–"]


def test_differences_have_a_verdict_per_ratio():
    heading, *rows = report.differences_table(Summary(results()), "poster", LABELS, PAIRS, "covl")
    assert heading == ["difference", "−5 dB", "verdict", "0 dB", "verdict", "5 dB", "verdict", "all", "verdict"]
    assert [row[0] for row in rows] == ["joint (poster) − SSE", "joint (poster) − mixture"]
    assert rows[1][1].startswith("+0.550 ± ")
    assert rows[1][2::2] == ["above"] * 4
    (reversed_row,) = report.differences_table(Summary(results()), "poster", LABELS, [("sse", "joint")], "covl")[1:]
    assert reversed_row[1].startswith("−0.5")
    assert reversed_row[2] == "below"


@pytest.mark.parametrize(
    ("value", "half_width", "expected"),
    [
        (0.2, 0.1, "above"),
        (-0.2, 0.1, "below"),
        (0.1, 0.2, "inconclusive"),
        (0.2, 0.2, "inconclusive"),
        (0.2, math.nan, "inconclusive"),
        (math.nan, math.nan, "inconclusive"),
    ],
)
def test_verdict_is_whether_the_interval_excludes_0(value, half_width, expected):
    assert report.verdict(Mean(value, half_width, 3, 0)) == expected


def test_domains_compare_the_gains():
    heading, *rows = report.domains_table(Summary(results()), LABELS, "covl")
    assert heading == ["system", "gain, matched", "gain, cross-domain", "change", "verdict"]
    assert [row[0] for row in rows] == ["SSE", "joint (poster)"]
    assert [cell.split()[0] for cell in rows[1][1:4]] == ["+0.800", "+0.550", "−0.250"]
    assert rows[1][4] == "below"
    assert rows[0][4] == "inconclusive"
    alone = Summary([entry for entry in results() if entry.system != "unprocessed"])
    assert report.domains_table(alone, LABELS, "covl") == [heading]


def test_costs_follow_the_labels():
    costs = [Cost("joint", 1_234_567, 0.0123), Cost("unprocessed", None, 0.0)]
    rows = [["mixture", "–", "0.0000"], ["joint (poster)", "1,234,567", "0.0123"]]
    assert report.costs_table(costs, LABELS)[1:] == rows
    text = report.costs_to_markdown(costs, LABELS, notes=["One thread."])
    assert text.startswith("# Cost\n\n- One thread.\n\n| system |")
    assert "| joint (poster) | 1,234,567 | 0.0123 |\n" in text


def test_a_report_is_a_function_of_the_results():
    scored = results()
    random.Random(0).shuffle(scored)
    assert markdown(scored) == markdown(results())


def test_a_report_has_the_sections_of_its_conditions():
    text = markdown(results())
    assert text.startswith("# Benchmark\n\n- Two seeds.\n- Scaled down.\n\n")
    assert text.endswith("|\n")
    titles = [line for line in text.splitlines() if line.startswith("## ")]
    assert titles == ["## Cross-domain, reverberant", "## Matched: noises and rooms as in training", "## Domains"]
    poster, matched, domains = text.split("\n## ")[1:]
    assert "`poster`, 12 mixtures." in poster
    assert [variant in poster for variant in ("PESQ nb-raw −5", "PESQ wb −5", "PESQ nb −5")] == [True] * 3
    assert "published" not in matched
    assert matched.count("\n### Paired differences in ") == domains.count("\n### Gain in ") == 3
    assert poster.index("| no mask | ") < poster.index("| whole | ")


def test_a_report_leaves_out_what_is_not_there():
    text = report.to_markdown(results(conditions=("dry", "attic")), {"unprocessed": "mixture"}, pairs=PAIRS)
    titles = [line for line in text.splitlines() if line.startswith("#")]
    means = [
        "### Means per SNR in dB, PESQ nb-raw",
        "### Means per SNR in dB, other measures",
        "### Means over all mixtures",
        "### Means over all mixtures: composite measures and DNSMOS",
    ]
    assert titles == ["# Benchmark", "## Dry", *means, "## attic", *means]


def test_every_table_has_rows_of_one_length():
    blocks = [block.splitlines() for block in markdown(results()).split("\n\n") if block.startswith("|")]
    assert len(blocks) > 10
    assert all(len({line.count("|") for line in block}) == 1 for block in blocks)
