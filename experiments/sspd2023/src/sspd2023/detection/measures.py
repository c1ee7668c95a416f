"""How well a score tells strange clips from others, with intervals over groups such as speakers or recordings."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

_RESAMPLINGS = 1000
_INTERVAL_PERCENT = (2.5, 97.5)


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True)
class Scored:
    """Scores of clips, and the group of each: a speaker, or a recording.

    Attributes:
        scores: `(n,)`, higher for what is stranger.
        groups: A name per clip.
    """

    scores: NDArray[np.float64]
    groups: tuple[str, ...]

    @classmethod
    def of(cls, scores: ArrayLike, groups: Sequence[str]) -> "Scored":
        """From any sequences."""
        return cls(np.asarray(scores, np.float64), tuple(groups))

    def __add__(self, other: "Scored") -> "Scored":
        return Scored(np.concatenate([self.scores, other.scores]), self.groups + other.groups)


def threshold(usual: Scored, false_positive_rate: float) -> float:
    """The score that a given share of usual clips exceeds.

    Args:
        usual: Clips of a development set.
        false_positive_rate: The share, 0 to 1.

    Returns:
        The threshold.
    """
    return float(np.quantile(usual.scores, 1 - false_positive_rate))


def share_above(scored: Scored, limit: float, seed: int = 0) -> Estimate:
    """Share of clips above a threshold.

    Args:
        scored: The clips.
        limit: The threshold.
        seed: Of the bootstrap.

    Returns:
        The share, 0 to 1.
    """
    names, index = np.unique(scored.groups, return_inverse=True)
    hits, counts = np.bincount(index, scored.scores > limit), np.bincount(index)
    drawn = _draws(len(names), np.random.default_rng(seed))
    return _estimate(float(hits.sum() / counts.sum()), (drawn @ hits) / (drawn @ counts))


def auroc(strange: Scored, usual: Scored, seed: int = 0) -> Estimate:
    """Area under the ROC: how likely a strange clip has the higher score of two; equal scores count half.

    Args:
        strange: What is to be found.
        usual: What is not.
        seed: Of the bootstrap, which draws groups; where both have the same groups, they are drawn together.

    Returns:
        The area, 0 to 1; 0.5 is chance.
    """
    difference = strange.scores[:, np.newaxis] - usual.scores
    wins = (difference > 0) + 0.5 * (difference == 0)
    rng = np.random.default_rng(seed)
    rows, row_index = np.unique(strange.groups, return_inverse=True)
    columns, column_index = np.unique(usual.groups, return_inverse=True)
    # Sums over the pairs of two groups: what the bootstrap weights.
    by_group = np.zeros((len(rows), len(columns)))
    np.add.at(by_group, (row_index[:, np.newaxis], column_index), wins)
    sizes = np.outer(np.bincount(row_index), np.bincount(column_index)).astype(np.float64)
    first = _draws(len(rows), rng)
    is_paired = np.array_equal(rows, columns)
    second = first if is_paired else _draws(len(columns), rng)
    areas = [
        _weighted(by_group, *drawn, is_paired) / _weighted(sizes, *drawn, is_paired)
        for drawn in zip(first, second, strict=True)
    ]
    return _estimate(float(wins.mean()), np.asarray(areas))


def _weighted(
    by_group: NDArray[np.float64], rows: NDArray[np.int64], columns: NDArray[np.int64], is_paired: bool
) -> float:
    """Sum over pairs of groups, weighted by how often these are drawn.

    A group's pairs with itself count as often as it is drawn, and not the square of that; the factor gives the others
    the same mean weight.
    """
    total = float(rows @ by_group @ columns)
    if not is_paired:
        return total
    own = np.diagonal(by_group)
    return float(own @ rows) + (total - float(own @ rows**2)) * len(rows) / max(1, len(rows) - 1)


def _draws(groups: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """How often each group is drawn, by resampling."""
    return rng.multinomial(groups, np.full(groups, 1 / groups), size=_RESAMPLINGS)


def _estimate(value: float, resampled: NDArray[np.float64]) -> Estimate:
    low, high = np.percentile(resampled, _INTERVAL_PERCENT)
    return Estimate(value, float(low), float(high))
