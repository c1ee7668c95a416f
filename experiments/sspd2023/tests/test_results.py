import csv
import io
import math
from dataclasses import astuple, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sottovoce.errors import DataError
from sottovoce.metrics.report import Mean
from sottovoce.metrics.scores import MEASURES, Scores
from sspd2023.results import Result, Summary, change, from_csv, to_csv

BASE = Scores(*(1.0 for _ in MEASURES))


def result(system, file, snr_db, covl, *, seed=None, condition="poster"):
    return Result(condition, system, seed, file, snr_db, replace(BASE, covl=covl))


def results():
    return [
        result("unprocessed", "0", -5.0, 1.0),
        result("unprocessed", "1", -5.0, 2.0),
        result("unprocessed", "2", 0.0, 3.0),
        result("unprocessed", "3", 0.0, 2.0),
        *(result("joint", "0", -5.0, covl, seed=seed) for seed, covl in ((1, 1.0), (2, 3.0))),
        *(result("joint", "1", -5.0, covl, seed=seed) for seed, covl in ((1, 3.0), (2, 5.0))),
        *(result("joint", "2", 0.0, covl, seed=seed) for seed, covl in ((1, 4.0), (2, 5.0))),
        *(result("joint", "3", 0.0, covl, seed=seed) for seed, covl in ((1, 2.0), (2, math.nan))),
    ]


names = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=12)
scores = st.lists(st.floats(-200, 200) | st.just(math.nan), min_size=len(MEASURES), max_size=len(MEASURES))
many = st.lists(
    st.builds(
        Result,
        names,
        names,
        st.none() | st.integers(0, 2**31),
        names,
        st.integers(-600, 600).map(lambda tenths: tenths / 10),
        scores.map(lambda values: Scores(*values)),
    ),
    max_size=5,
)


@given(many)
@settings(max_examples=50, deadline=None, derandomize=True)
def test_a_table_is_read_as_it_was_written(written):
    read = from_csv(to_csv(written))
    assert [replace(entry, scores=BASE) for entry in read] == [replace(entry, scores=BASE) for entry in written]
    for before, after in zip(written, read, strict=True):
        assert astuple(after.scores) == pytest.approx(astuple(before.scores), abs=0.5001e-4, rel=0, nan_ok=True)
    assert to_csv(read) == to_csv(written)


def test_a_table_has_a_line_per_result():
    rows = list(csv.DictReader(io.StringIO(to_csv(results()))))
    assert list(rows[0]) == ["condition", "system", "seed", "file", "snr_db", *MEASURES]
    assert [rows[0][name] for name in ("system", "seed", "file", "snr_db", "covl")] == [
        "unprocessed", "", "0", "-5", "1.0000",
    ]  # fmt: skip
    assert [rows[-1][name] for name in ("system", "seed", "covl")] == ["joint", "2", "undefined"]


def test_a_foreign_table_is_refused():
    with pytest.raises(DataError, match="columns file, system"):
        from_csv("file,system\n")
    with pytest.raises(DataError, match="none"):
        from_csv("")


@pytest.mark.parametrize(("whole", "damaged"), [("1.0000", "good"), (",1.0000\n", "\n"), (",-5,", ",low,")])
def test_a_damaged_line_is_named(whole, damaged):
    heading, first, second = to_csv(results()[:2]).splitlines(keepends=True)
    with pytest.raises(DataError, match="line 3"):
        from_csv(heading + first + second.replace(whole, damaged, 1))


def test_seeds_are_averaged_before_the_interval():
    # Mixtures (1 + 3) / 2 = 2 and (3 + 5) / 2 = 4; t(0.975, 1) = 12.7062, s / sqrt(2) = 1.
    mean = Summary(results()).mean("poster", "joint", "covl", -5.0)
    assert mean.value == 3.0
    assert mean.half_width == pytest.approx(12.7062, abs=1e-4)
    assert mean.defined == 2


def test_a_mixture_that_lacks_a_seed_is_left_out_and_counted():
    expected = Mean(3.5, pytest.approx(4.303 * 1.3229 / math.sqrt(3), abs=0.01), 3, 1)  # of 2, 4 and 4.5
    assert Summary(results()).mean("poster", "joint", "covl") == replace(expected, value=pytest.approx(3.5))
    assert Summary(results()[:-1]).mean("poster", "joint", "covl").undefined == 1


def test_spread_is_over_the_means_of_the_seeds():
    summary = Summary(results())
    # Mixtures 0, 1 and 2: seed 1 has 8 / 3 on average, seed 2 has 13 / 3.
    spread = summary.spread("poster", "joint", "covl")
    assert spread.seeds == 2
    assert spread.deviation == pytest.approx(5 / 3 / math.sqrt(2))
    assert summary.spread("poster", "unprocessed", "covl").seeds == 0
    alone = Summary([result("joint", "0", 0.0, 1.0, seed=1)]).spread("poster", "joint", "covl")
    assert alone.seeds == 1
    assert math.isnan(alone.deviation)


def test_a_system_that_fails_for_one_seed_has_no_spread():
    failed = [entry if entry.seed != 2 else replace(entry, scores=results()[-1].scores) for entry in results()]
    summary = Summary(failed)
    assert str(summary.mean("poster", "joint", "covl")) == "undefined"
    assert math.isnan(summary.spread("poster", "joint", "covl").deviation)


def test_differences_are_paired():
    summary = Summary(results())
    gain = summary.gain("poster", "joint", "covl", -5.0)  # 2 - 1 and 4 - 2
    assert gain.value == 1.5
    assert gain.half_width == pytest.approx(12.7062 / 2, abs=1e-4)
    assert summary.difference("poster", "unprocessed", "joint", "covl", -5.0).value == -1.5
    everywhere = summary.gain("poster", "joint", "covl")  # and 4.5 - 3; the last mixture is undefined
    assert (everywhere.value, everywhere.defined, everywhere.undefined) == (1.5, 3, 1)


def test_conditions_and_ratios_are_kept_apart():
    summary = Summary([*results(), result("joint", "0", 10.0, 9.0, seed=1, condition="dry")])
    assert summary.conditions == ("dry", "poster")
    assert summary.snrs_db("poster") == (-5.0, 0.0)
    assert summary.snrs_db("dry") == (10.0,)
    assert summary.systems("dry") == {"joint"}
    assert (summary.count("poster"), summary.count("dry")) == (4, 1)
    assert summary.values("dry", "joint", "covl") == {(10.0, "0"): 9.0}


def test_a_result_that_is_there_twice_is_refused():
    with pytest.raises(DataError, match=r"joint with seed 1 .* 0 at -5 dB"):
        Summary([*results(), results()[4]])


def test_a_system_without_results_is_named():
    with pytest.raises(DataError, match="system sse in poster"):
        Summary(results()).gain("poster", "sse", "covl")
    with pytest.raises(DataError, match="system unprocessed in dry"):
        Summary([result("joint", "0", 0.0, 1.0, condition="dry")]).gain("dry", "joint", "covl")


@given(st.permutations(results()))
@settings(max_examples=10, deadline=None, derandomize=True)
def test_the_order_of_results_does_not_matter(shuffled):
    assert repr(Summary(shuffled).mean("poster", "joint", "covl")) == repr(
        Summary(results()).mean("poster", "joint", "covl")
    )


def test_a_change_between_conditions_has_the_doubt_of_both():
    assert change(Mean(1.0, 0.3, 10, 1), Mean(0.5, 0.4, 20, 2)) == Mean(-0.5, pytest.approx(0.5), 30, 3)
    assert str(change(Mean(1.0, 0.3, 10, 0), Mean(math.nan, math.nan, 0, 20))) == "undefined"
