"""Scores of many systems on many mixtures, and the statistics over mixtures and training seeds."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from sottovoce.errors import DataError
from sottovoce.metrics.report import Mean, mean, read_score_csv, score_csv
from sottovoce.metrics.scores import MEASURES, Scores

UNPROCESSED = "unprocessed"
"""The system that gives back the mixture."""

Mixture = tuple[float, str]
"""SNR in dB and file: what identifies a mixture of a test set."""

RESULT_COLUMNS = ("condition", "system", "seed", "file", "snr_db")
"""Names of the columns that say whose scores a line of a table has."""


@dataclass(frozen=True)
class Result:
    """The scores of one output of one system.

    Attributes:
        condition: Name of the test set.
        system: Name of the system.
        seed: Seed of its training; None where nothing is trained.
        file: Name of the mixture in the test set.
        snr_db: Signal-to-noise ratio of the mixture.
        scores: All measures; NaN is "undefined".
    """

    condition: str
    system: str
    seed: int | None
    file: str
    snr_db: float
    scores: Scores


@dataclass(frozen=True)
class Cost:
    """What it takes to run a system.

    Attributes:
        system: Name of the system.
        parameters: Number of trained values; None where nothing is trained.
        cpu_seconds_per_second: Time on one thread per second of audio.
    """

    system: str
    parameters: int | None
    cpu_seconds_per_second: float


@dataclass(frozen=True)
class Facts:
    """What stands beside the name of a system.

    Attributes:
        learned_from: Unpaired recordings, pairs, the answer, or nothing.
        parameters: Trained values that enhancing needs; None where there are none, or the number is unknown.
    """

    learned_from: str
    parameters: int | None


@dataclass(frozen=True)
class Spread:
    """How far the mean over mixtures depends on the seed of the training.

    Attributes:
        deviation: Standard deviation of the seeds' means, with n - 1; NaN for fewer than two seeds.
        seeds: Number of seeds; 0 where nothing is trained.
    """

    deviation: float
    seeds: int


@dataclass(frozen=True)
class _Scored:
    """The scores of one system in one condition."""

    mixtures: list[Mixture]
    """Sorted, so that equal results give equal sums."""
    seeds: list[int | None]
    scores: NDArray[np.float64]
    """Of shape `(mixtures, seeds, measures)`; NaN where a mixture was not scored for a seed, too."""

    def by_seed(self, measure: str) -> NDArray[np.float64]:
        """Values `(mixtures, seeds)` of a measure."""
        column: NDArray[np.float64] = self.scores[:, :, MEASURES.index(measure)]
        return column


class Summary:
    """Means, differences and spreads of results.

    The value of a mixture is the mean over the seeds: seeds share the mixtures, so counting each output on its own
    would make the intervals too narrow. The intervals are therefore over mixtures, for these seeds. A mixture that
    lacks a value from any seed is left out and counted.
    """

    def __init__(self, results: Iterable[Result]) -> None:
        """Sort results by condition, system, mixture and seed; their order does not matter.

        Args:
            results: One per condition, system, seed, file and SNR.

        Raises:
            DataError: Two results are of the same output.
        """
        grouped: dict[tuple[str, str], dict[tuple[Mixture, int | None], Scores]] = {}
        for result in results:
            scores = grouped.setdefault((result.condition, result.system), {})
            key = (result.snr_db, result.file), result.seed
            if key in scores:
                raise DataError(
                    f"found two results of the system {result.system} with seed {result.seed} for the mixture "
                    f"{result.file} at {result.snr_db:g} dB in {result.condition}, expected one: remove the other"
                )
            scores[key] = result.scores
        self._scored = {name: _arrange(scores) for name, scores in grouped.items()}

    @property
    def conditions(self) -> tuple[str, ...]:
        """Names of the test sets, sorted."""
        return tuple(sorted({condition for condition, _ in self._scored}))

    def systems(self, condition: str) -> frozenset[str]:
        """Names of the systems that have results.

        Args:
            condition: Name of the test set.

        Returns:
            Names; none for an unknown condition.
        """
        return frozenset(system for name, system in self._scored if name == condition)

    def snrs_db(self, condition: str) -> tuple[float, ...]:
        """Signal-to-noise ratios of the mixtures.

        Args:
            condition: Name of the test set.

        Returns:
            Ratios in dB, ascending.
        """
        return tuple(sorted({snr_db for snr_db, _ in self._mixtures(condition)}))

    def count(self, condition: str) -> int:
        """Number of mixtures.

        Args:
            condition: Name of the test set.

        Returns:
            How many mixtures any system has results of.
        """
        return len(self._mixtures(condition))

    def values(self, condition: str, system: str, measure: str, snr_db: float | None = None) -> dict[Mixture, float]:
        """Mean over the seeds for every mixture.

        Args:
            condition: Name of the test set.
            system: Name of the system.
            measure: One of `MEASURES`.
            snr_db: Only mixtures of this ratio; None for all.

        Returns:
            Values by SNR and file, sorted by both; NaN where a seed has none.

        Raises:
            DataError: The system has no results there.
        """
        scored = self._find(condition, system)
        averages = scored.by_seed(measure).mean(axis=1).tolist()
        return {
            mixture: value
            for mixture, value in zip(scored.mixtures, averages, strict=True)
            if snr_db is None or mixture[0] == snr_db
        }

    def mean(self, condition: str, system: str, measure: str, snr_db: float | None = None) -> Mean:
        """Mean over mixtures with its confidence interval.

        Args:
            condition: Name of the test set.
            system: Name of the system.
            measure: One of `MEASURES`.
            snr_db: Only mixtures of this ratio; None for all.

        Returns:
            Mean and interval of Student's t.

        Raises:
            DataError: A system has no results there.
            MissingExtraError: The package scipy is not installed.
        """
        return mean(list(self.values(condition, system, measure, snr_db).values()))

    def spread(self, condition: str, system: str, measure: str) -> Spread:
        """Standard deviation of the means of the seeds, all over the same mixtures.

        Args:
            condition: Name of the test set.
            system: Name of the system.
            measure: One of `MEASURES`.

        Returns:
            Spread and number of seeds.

        Raises:
            DataError: The system has no results there.
        """
        scored = self._find(condition, system)
        if scored.seeds == [None]:
            return Spread(math.nan, 0)
        by_seed = scored.by_seed(measure)
        defined = by_seed[~np.isnan(by_seed).any(axis=1)]
        if len(scored.seeds) < 2 or not len(defined):
            return Spread(math.nan, len(scored.seeds))
        return Spread(float(np.std(defined.mean(axis=0), ddof=1)), len(scored.seeds))

    def difference(self, condition: str, system: str, baseline: str, measure: str, snr_db: float | None = None) -> Mean:
        """Mean of the paired differences between two systems, mixture by mixture.

        Args:
            condition: Name of the test set.
            system: The system in question.
            baseline: The system that is subtracted.
            measure: One of `MEASURES`.
            snr_db: Only mixtures of this ratio; None for all.

        Returns:
            Mean and interval of Student's t over the mixtures that both have; a mixture that lacks the measure for
            either is left out and counted.

        Raises:
            DataError: A system has no results there.
            MissingExtraError: The package scipy is not installed.
        """
        values = self.values(condition, system, measure, snr_db)
        subtracted = self.values(condition, baseline, measure, snr_db)
        return mean([value - subtracted[mixture] for mixture, value in values.items() if mixture in subtracted])

    def gain(self, condition: str, system: str, measure: str, snr_db: float | None = None) -> Mean:
        """Mean of the paired differences to the unprocessed mixtures.

        Args:
            condition: Name of the test set.
            system: The system in question.
            measure: One of `MEASURES`.
            snr_db: Only mixtures of this ratio; None for all.

        Returns:
            As of `difference`.

        Raises:
            DataError: A system has no results there.
            MissingExtraError: The package scipy is not installed.
        """
        return self.difference(condition, system, UNPROCESSED, measure, snr_db)

    def _find(self, condition: str, system: str) -> _Scored:
        if (condition, system) not in self._scored:
            raise DataError(f"found no results of the system {system} in {condition}, expected some: run it there")
        return self._scored[condition, system]

    def _mixtures(self, condition: str) -> set[Mixture]:
        scored = [system for (name, _), system in self._scored.items() if name == condition]
        return {mixture for system in scored for mixture in system.mixtures}


def change(before: Mean, after: Mean) -> Mean:
    """Difference of two means over mixtures that are not paired.

    Args:
        before: The mean that is subtracted.
        after: The mean in question.

    Returns:
        Difference; its half width is the root of the sum of squares of the two, slightly wide for few mixtures.
    """
    undefined = before.undefined + after.undefined
    if not (before.defined and after.defined):
        return Mean(math.nan, math.nan, 0, undefined + before.defined + after.defined)
    half_width = math.hypot(before.half_width, after.half_width)
    return Mean(after.value - before.value, half_width, before.defined + after.defined, undefined)


def to_csv(results: Iterable[Result]) -> str:
    """One line per result, with `undefined` where there is no score.

    Args:
        results: What to write; scores are rounded to four decimals.

    Returns:
        Comma-separated text with the columns condition, system, seed, file, snr_db and every measure.
    """
    return score_csv(RESULT_COLUMNS, ((cells_of(result), result.scores) for result in results))


def cells_of(result: Result) -> list[str]:
    """Cells of the columns before the scores, `RESULT_COLUMNS`."""
    seed = "" if result.seed is None else str(result.seed)
    return [result.condition, result.system, seed, result.file, f"{result.snr_db:g}"]


def from_csv(text: str) -> list[Result]:
    """Read what `to_csv` wrote.

    Args:
        text: The table.

    Returns:
        Results in the order of the lines.

    Raises:
        DataError: The text is not such a table.
    """
    return read_score_csv(text, RESULT_COLUMNS, _result)


def _result(whose: Sequence[str], scores: Scores) -> Result:
    condition, system, seed, file, snr_db = whose
    return Result(condition, system, int(seed) if seed else None, file, float(snr_db), scores)


def _arrange(scores: Mapping[tuple[Mixture, int | None], Scores]) -> _Scored:
    mixtures = sorted({mixture for mixture, _ in scores})
    seeds = sorted({seed for _, seed in scores}, key=lambda seed: -1 if seed is None else seed)
    arranged = np.full((len(mixtures), len(seeds), len(MEASURES)), math.nan)
    rows, columns = ({key: index for index, key in enumerate(keys)} for keys in (mixtures, seeds))
    for (mixture, seed), values in scores.items():
        arranged[rows[mixture], columns[seed]] = astuple(values)
    return _Scored(mixtures, seeds, arranged)
