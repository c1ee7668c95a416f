"""Areas, thresholds and their intervals."""

import numpy as np
import pytest

from sspd2023.detection.measures import Scored, auroc, share_above, threshold


def scored(scores, groups=None):
    return Scored.of(scores, groups or [str(index) for index in range(len(scores))])


def test_area_counts_pairs():
    assert auroc(scored([2.0, 3.0]), scored([0.0, 1.0])).value == 1.0
    assert auroc(scored([0.0]), scored([0.0])).value == 0.5
    assert auroc(scored([1.0, 3.0]), scored([0.0, 2.0])).value == 0.75


def test_area_of_two_groups_that_are_the_same_is_half():
    values = np.random.default_rng(0).standard_normal(200)
    others = [f"other {index}" for index in range(values.size)]
    same = auroc(scored(values), scored(values, others))
    assert same.value == pytest.approx(0.5)
    assert same.low < 0.5 < same.high


def test_groups_of_both_are_drawn_together_without_bias():
    """Every group wins against itself, and against half of the others: what is drawn twice must not count for more."""
    usual = np.arange(12.0)
    area = auroc(scored(usual + 0.5), scored(usual))
    assert area.value == pytest.approx((12 * 13 / 2) / 144)
    assert (area.low + area.high) / 2 == pytest.approx(area.value, abs=0.005)


def test_threshold_is_exceeded_by_the_given_share():
    usual = scored(np.arange(100.0))
    assert np.mean(usual.scores > threshold(usual, 0.05)) == pytest.approx(0.05)


def test_intervals_are_over_groups():
    # Twenty clips of two speakers are two observations: the interval is as wide as that of two.
    few = share_above(scored([1.0] * 10 + [0.0] * 10, ["a"] * 10 + ["b"] * 10), 0.5)
    many = share_above(scored([1.0] * 10 + [0.0] * 10), 0.5)
    assert few.value == many.value == 0.5
    assert few.high - few.low > 1.5 * (many.high - many.low)


def test_parts_are_joined():
    both = scored([1.0], ["a"]) + scored([2.0], ["b"])
    assert both.groups == ("a", "b")
    assert both.scores.tolist() == [1.0, 2.0]
