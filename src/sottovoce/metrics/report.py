"""Means with confidence intervals, and the tables for people (Markdown) and for programs (CSV).

The interval is Student's t over files: it needs no seed and, unlike the bootstrap, is not too narrow for a few files.
"""

import csv
import html
import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from sottovoce.errors import DataError, printable
from sottovoce.extras import require
from sottovoce.metrics.scores import LOWER_IS_BETTER, MEASURES, FileScores, Ratings, Scores

CONFIDENCE = 0.95
UNDEFINED = "undefined"

_Line = TypeVar("_Line")


@dataclass(frozen=True)
class Mean:
    """Mean of a measure over files, with the half width of its 95 % confidence interval."""

    value: float
    """NaN where no file has the measure."""
    half_width: float
    """NaN for fewer than two files."""
    defined: int
    """Number of files that have the measure."""
    undefined: int
    """Number of files that do not, left out of the mean."""

    def __str__(self) -> str:
        """Mean ± half width with three decimals, and how many files were left out."""
        return format(self, ".3f")

    def __format__(self, spec: str) -> str:
        """The same in another format of numbers, such as `.2f`, or `+.2f` for a difference."""
        if not spec:
            return str(self)
        if not self.defined:
            return UNDEFINED
        interval = "" if math.isnan(self.half_width) else f" ± {format(self.half_width, spec.removeprefix('+'))}"
        left_out = f" ({self.undefined} {UNDEFINED})" if self.undefined else ""
        return f"{format(self.value, spec)}{interval}{left_out}".replace("-", "−")


def mean(values: Sequence[float]) -> Mean:
    """Mean and confidence interval of the defined values.

    Args:
        values: One per file; NaN is left out and counted.

    Returns:
        Mean with the half width of the interval of Student's t.

    Raises:
        MissingExtraError: The package scipy is not installed.
    """
    require("metrics", "A confidence interval", "scipy")
    from scipy.special import stdtrit

    defined = np.array([value for value in values if not math.isnan(value)], dtype=np.float64)
    count = len(defined)
    if not count:
        return Mean(math.nan, math.nan, 0, len(values))
    half_width = math.nan
    if count > 1:
        quantile = float(stdtrit(count - 1, (1.0 + CONFIDENCE) / 2.0))
        half_width = quantile * float(np.std(defined, ddof=1)) / math.sqrt(count)
    return Mean(float(np.mean(defined)), half_width, count, len(values) - count)


def summarise(results: Sequence[FileScores], measures: Sequence[str] = MEASURES) -> dict[str, dict[str, Mean]]:
    """Mean of every measure for every system.

    Args:
        results: Scores of all files.
        measures: Which of them.

    Returns:
        Means by system, then by measure; systems in order of appearance.
    """
    return {
        system: {
            measure: mean([getattr(result.scores, measure) for result in results if result.system == system])
            for measure in measures
        }
        for system in dict.fromkeys(result.system for result in results)
    }


def differences(
    results: Sequence[FileScores], system: str, baseline: str, measures: Sequence[str] = MEASURES
) -> dict[str, Mean]:
    """Mean of the paired differences between two systems, file by file.

    The interval of the differences shows whether a gain is more than chance; those of the two means, which share the
    easy and the hard files, do not.

    Args:
        results: Scores of all files.
        system: The system in question.
        baseline: The system that is subtracted.
        measures: Which of them.

    Returns:
        Means by measure; a file that lacks the measure for either system is left out and counted.
    """
    by_key = {(result.file, result.system): result.scores for result in results}
    files = [file for file, name in by_key if name == baseline and (file, system) in by_key]
    return {
        measure: mean([getattr(by_key[f, system], measure) - getattr(by_key[f, baseline], measure) for f in files])
        for measure in measures
    }


def table(results: Sequence[FileScores], measures: Sequence[str] = MEASURES) -> list[list[str]]:
    """Means as rows of text, the heading first: one row per measure, one column per system.

    Args:
        results: Scores of all files, of one system or of several; the first system is compared with each other one.
        measures: Which of them.

    Returns:
        Rows of equal length; an arrow at each measure points to the better end.
    """
    means = summarise(results, measures)
    first, *others = means
    compared = {other: differences(results, first, other, measures) for other in others}
    heading = ["measure", *reversed(means), *(f"{first} − {other}" for other in compared)]
    return [heading] + [
        [
            measure if measure.endswith("_dbfs") else f"{measure} {'↓' if measure in LOWER_IS_BETTER else '↑'}",
            *(str(means[system][measure]) for system in reversed(means)),
            *(f"{difference[measure]:+.3f}" for difference in compared.values()),
        ]
        for measure in measures
    ]


def to_csv(results: Sequence[FileScores], measures: Sequence[str] = MEASURES) -> str:
    """One line per file and system.

    Args:
        results: Scores of all files.
        measures: Which of them.

    Returns:
        Comma-separated text with the columns file, system and every measure.
    """
    rows = (([result.file, result.system], result.scores) for result in results)
    return score_csv(["file", "system"], rows, measures)


def score_csv(
    columns: Sequence[str], rows: Iterable[tuple[Sequence[str], Scores | Ratings]], measures: Sequence[str] = MEASURES
) -> str:
    """Scores for programs, as all of the project's tables have them; `read_score_csv` reads them.

    Args:
        columns: Names of what says whose scores a line has.
        rows: For every line these values, and the scores.
        measures: Which of them.

    Returns:
        Comma-separated text, the heading first: the columns, then every measure, `undefined` where there is no score.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*columns, *measures])
    writer.writerows([*whose, *score_cells(scores, measures)] for whose, scores in rows)
    return text.getvalue()


def read_score_csv(text: str, columns: Sequence[str], make: Callable[[Sequence[str], Scores], _Line]) -> list[_Line]:
    """Read what `score_csv` wrote of all measures.

    Args:
        text: The table; an empty cell is an undefined score, too.
        columns: Names of the columns before the measures.
        make: Makes a line's value of the cells of these columns and the scores, which are NaN where they are undefined;
            a ValueError says that a cell is wrong.

    Returns:
        The values in the order of the lines.

    Raises:
        DataError: The text is not such a table.
    """
    rows = csv.reader(io.StringIO(text, newline=""))
    heading, expected = next(rows, []), [*columns, *MEASURES]
    if heading != expected:
        raise DataError(
            f"found a table with the columns {', '.join(heading) or '(none)'}, expected {', '.join(expected)}: "
            "make it again"
        )
    values = []
    try:
        for row in rows:
            whose, cells = row[: len(columns)], row[len(columns) :]
            if len(cells) != len(MEASURES):
                raise ValueError(f"{len(row)} cells, not {len(expected)}")
            scores = Scores(*(math.nan if cell in (UNDEFINED, "") else float(cell) for cell in cells))
            values.append(make(whose, scores))
    except (ValueError, csv.Error) as error:
        raise DataError(
            f"found a damaged line {rows.line_num} in a table of scores ({error}): remove it or make it again"
        ) from error
    return values


def to_markdown(results: Sequence[FileScores], measures: Sequence[str] = MEASURES, *, notes: Sequence[str] = ()) -> str:
    """Report for people: the means, how they were made, then every file.

    Args:
        results: Scores of all files.
        measures: Which of them.
        notes: Sentences on what is missing.

    Returns:
        Markdown text.
    """
    files = len({result.file for result in results})
    lines = [
        "# Scores",
        "",
        f"Mean of {files} file(s) with the 95 % confidence interval (Student's t over files); values that are "
        "undefined (a silent or too short signal) are left out and counted. All measures at 16 kHz: PESQ as MOS-LQO, "
        "wideband (`wb`) and narrowband (`nb`, and its raw score); `csig`, `cbak`, `covl` with wideband PESQ; "
        "SI-SDR with the mean removed; segmental SNR limited to -10..35 dB.",
        "",
        *markdown_table(table(results, measures)),
        "",
        *(f"Note: {_cell(note)}\n" for note in notes),
        "## Files",
        "",
        *markdown_table(
            [["file", "system", *measures]]
            + [[_cell(result.file), _cell(result.system), *score_cells(result.scores, measures)] for result in results]
        ),
    ]
    return "\n".join(lines) + "\n"


def score_cells(scores: Scores | Ratings, measures: Sequence[str] = MEASURES) -> list[str]:
    """Scores as text.

    Args:
        scores: Measures of one signal.
        measures: Which of them.

    Returns:
        Every measure with four decimals, or `undefined`.
    """
    values = (getattr(scores, measure) for measure in measures)
    return [UNDEFINED if math.isnan(value) else f"{value:.4f}" for value in values]


def _cell(name: str) -> str:
    """A name that stays in its cell of a table, and is no markup."""
    return html.escape(printable(name), quote=False).replace("|", r"\|")


def markdown_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Table of Markdown, first column to the left and the others to the right.

    Args:
        rows: Cells, the heading first; rows of equal length.

    Returns:
        Lines of text.
    """
    rule = ["---", *("---:" for _ in rows[0][1:])]
    return ["| " + " | ".join(cells) + " |" for cells in (rows[0], rule, *rows[1:])]
