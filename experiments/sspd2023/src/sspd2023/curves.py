"""Learning curves: scores over the steps of the trainings, as a page with tables, a figure and a line per score."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sottovoce.atomic import replacing
from sottovoce.metrics import plots
from sottovoce.metrics.plots import COLOURS, GRID, INK, new_figure, tidy
from sottovoce.metrics.report import markdown_table, score_csv
from sottovoce.metrics.scores import MEASURE_NAMES, Scores
from sspd2023.report import CONDITIONS
from sspd2023.results import RESULT_COLUMNS, UNPROCESSED, Result, Summary, cells_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEASURES = ("estoi", "pesq_nb_raw", "covl")
"""What is drawn: the words first, then the measures of the poster."""

_METHOD = """\
Networks were kept during the last stage of every training, after a sixteenth, an eighth, a quarter and a half of it,
and scored as they were; the last point is the finished training. The learning rate falls along a half cosine over the
whole stage, so that a training of fewer steps may end higher than the curve of a longer one at the same step. Steps are
those of the last stage. Intervals are 95 % confidence intervals (Student's t) over mixtures, for these seeds."""

_Reached = Mapping[int, Summary]
"""Results by steps of the last stage, ascending, of one system."""


def write(
    by_steps: Mapping[int, Sequence[Result]],
    unprocessed: Sequence[Result],
    labels: Mapping[str, str],
    notes: Sequence[str],
    output: Path,
) -> list[Path]:
    """Write `curves.md`, `curves.csv` and a figure for every condition.

    Args:
        by_steps: Results by the steps of the last stage behind them, on equal mixtures.
        unprocessed: Results of the unprocessed mixtures, of these or more.
        labels: What systems are called, in the order of the rows.
        notes: Sentences for the top: what was run.
        output: Folder of the benchmark.

    Returns:
        What was written.

    Raises:
        MissingExtraError: The package matplotlib or scipy is not installed.
    """
    files = [output / "curves.md", output / "curves.csv"]
    lines = ["# Learning curves", "", *(f"- {note}" for note in notes), "", _METHOD, ""]
    conditions = dict.fromkeys(result.condition for results in by_steps.values() for result in results)
    for condition in conditions:
        curves = _curves(by_steps, condition, labels)
        scored = {(r.file, r.snr_db) for results in by_steps.values() for r in results if r.condition == condition}
        beside = Summary(r for r in unprocessed if r.condition == condition and (r.file, r.snr_db) in scored)
        files.append(output / "figures" / f"{condition}_curves.png")
        plots.save(panels(curves, beside, condition, labels), files[-1])
        lines += [f"## {CONDITIONS.get(condition, condition)}", "", f"`{condition}`, {len(scored)} mixtures.", ""]
        lines += [f"![Scores over the steps of the trainings](figures/{condition}_curves.png)", ""]
        lines += [*markdown_table(table(curves, beside, condition, labels)), ""]
    texts = ["\n".join(lines[:-1]) + "\n", _to_csv(by_steps)]
    for path, text in zip(files, texts, strict=False):
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return files


def table(
    curves: Mapping[str, _Reached], unprocessed: Summary, condition: str, labels: Mapping[str, str]
) -> list[list[str]]:
    """Means at every point of the curves.

    Args:
        curves: By system.
        unprocessed: Results of the unprocessed mixtures.
        condition: Name of the test set.
        labels: What systems are called.

    Returns:
        Rows of text, the heading first: the unprocessed mixtures, then one row per system and number of steps.

    Raises:
        MissingExtraError: The package scipy is not installed.
    """
    rows = [["system", "steps of the last stage", *(MEASURE_NAMES[measure] for measure in MEASURES)]]
    rows.append([UNPROCESSED, "", *_means(unprocessed, condition, UNPROCESSED)])
    for system, reached in curves.items():
        rows += [
            [labels[system], f"{steps:,}", *_means(summary, condition, system)] for steps, summary in reached.items()
        ]
    return rows


def panels(curves: Mapping[str, _Reached], unprocessed: Summary, condition: str, labels: Mapping[str, str]) -> "Figure":
    """A panel per measure: means with their intervals over the steps, on a logarithmic scale.

    Args:
        curves: By system.
        unprocessed: Results of the unprocessed mixtures: a dashed line.
        condition: Name of the test set.
        labels: What systems are called.

    Returns:
        Figure, 10 inches wide.

    Raises:
        MissingExtraError: The package matplotlib or scipy is not installed.
    """
    figure = new_figure(10.0, 3.6)
    axes = figure.subplots(1, len(MEASURES), sharex=True)
    colours = [COLOURS[0], COLOURS[2], COLOURS[3], "#8b5fa8", INK]
    ticks = sorted({steps for reached in curves.values() for steps in reached})
    for axis, measure in zip(axes, MEASURES, strict=True):
        before = unprocessed.mean(condition, UNPROCESSED, measure).value
        axis.axhline(before, color=INK, linewidth=0.9, linestyle="--", label=UNPROCESSED)
        for index, (system, reached) in enumerate(curves.items()):
            means = [summary.mean(condition, system, measure) for summary in reached.values()]
            axis.errorbar(
                list(reached),
                [mean.value for mean in means],
                [mean.half_width for mean in means],
                color=colours[index % len(colours)],
                linestyle=("-", "--", ":")[index // len(colours) % 3],
                marker="osv^Dx+"[index % 7],
                markersize=3.5,
                linewidth=1.2,
                elinewidth=0.5,
                label=labels[system],
            )
        axis.set_xscale("log")
        axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks], rotation=45, ha="right")
        axis.minorticks_off()
        axis.set_title(MEASURE_NAMES[measure], fontsize=9, color=INK)
        axis.grid(color=GRID)
        tidy(axis)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(
        handles, names, loc="outside upper center", ncols=min(4, len(names)), frameon=False, fontsize=8, labelcolor=INK
    )
    figure.supxlabel("steps of the last stage", fontsize=9, color=INK)
    return figure


def _curves(
    by_steps: Mapping[int, Sequence[Result]], condition: str, labels: Mapping[str, str]
) -> dict[str, dict[int, Summary]]:
    curves: dict[str, dict[int, Summary]] = {}
    for system in labels:
        for steps, results in by_steps.items():
            if chosen := [r for r in results if r.condition == condition and r.system == system]:
                curves.setdefault(system, {})[steps] = Summary(chosen)
    return curves


def _means(summary: Summary, condition: str, system: str) -> list[str]:
    return [str(summary.mean(condition, system, measure)) for measure in MEASURES]


def _to_csv(by_steps: Mapping[int, Iterable[Result]]) -> str:
    def rows() -> Iterator[tuple[list[str], Scores]]:
        for steps, results in by_steps.items():
            for result in results:
                yield [str(steps), *cells_of(result)], result.scores

    return score_csv(["steps_of_last_stage", *RESULT_COLUMNS], rows())
