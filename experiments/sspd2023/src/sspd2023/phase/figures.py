"""Figures of the page on amplitude and phase, in the style of `metrics.plots`."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from sottovoce.metrics.plots import COLOURS, GRID, INK, new_figure, tidy
from sottovoce.metrics.report import Mean, mean
from sottovoce.metrics.scores import MEASURE_NAMES
from sspd2023.figures import ratio_label, shades
from sspd2023.phase.measures import CENTRES_DB, Curves
from sspd2023.phase.study import AMPLITUDES, BUNDLED, CEILING, CLEAN, DECODED, JOINT, PHASES, system
from sspd2023.results import UNPROCESSED, Summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SCORED = ("pesq_wb", "pesq_nb", "estoi", "si_sdr_db")
_DRAWN = (CLEAN, BUNDLED)
"""Amplitudes whose curves are drawn."""

_SI_SDR_LIMITS_DB = (-40.0, 15.0)
"""Clean speech itself has more, as far as rounding lets it."""

_PANELS = {
    "phase_degrees": "phase error in degrees",
    "advance_degrees": "error of the advance in degrees",
    "inconsistency_db": "inconsistency in dB",
}
# Colour, line and mark: also distinct in grey print.
_STYLES = {
    "mixture": (INK, "-", "o"),
    "heap": (COLOURS[2], "-", "s"),
    "griffin_lim": (COLOURS[3], "--", "^"),
    f"{BUNDLED}_{DECODED}": (COLOURS[0], "-", "v"),
    f"{BUNDLED}_{CEILING}": (COLOURS[0], ":", "x"),
    f"{JOINT}_{DECODED}": ("#8b5fa8", "-", "<"),
    f"{JOINT}_{CEILING}": ("#8b5fa8", ":", "+"),
    CLEAN: (COLOURS[1], "-", "P"),
}


def score_panels(summary: Summary, condition: str) -> "Figure":
    """Means with their 95 % confidence intervals: a column per amplitude, a row per measure, a place per phase.

    Args:
        summary: Results of the study and of the unprocessed mixtures.
        condition: Name of the test set.

    Returns:
        Figure; a dashed line marks each ratio's mean of the unprocessed mixtures.

    Raises:
        MissingExtraError: The package matplotlib or scipy is not installed.
    """
    present, snrs_db = summary.systems(condition), summary.snrs_db(condition)
    amplitudes = [amplitude for amplitude in AMPLITUDES if system(amplitude, "mixture") in present]
    figure = new_figure(0.6 + 2.6 * len(amplitudes), 9.4)
    grid = figure.subplots(len(_SCORED), len(amplitudes), squeeze=False, sharex="col", sharey="row")
    for column, amplitude in enumerate(amplitudes):
        phases = [phase for phase in PHASES if system(amplitude, phase) in present]
        for axis, measure in zip(grid[:, column], _SCORED, strict=True):
            for index, (snr_db, colour) in enumerate(zip(snrs_db, shades(len(snrs_db)), strict=True)):
                places = np.arange(len(phases)) + 0.2 * (index - (len(snrs_db) - 1) / 2.0)
                means = [summary.mean(condition, system(amplitude, phase), measure, snr_db) for phase in phases]
                axis.errorbar(
                    places,
                    [each.value for each in means],
                    yerr=np.nan_to_num([each.half_width for each in means]),
                    fmt="o",
                    markersize=4,
                    color=colour,
                    ecolor=INK,
                    elinewidth=0.8,
                    capsize=1.5,
                    markeredgecolor=INK,
                    markeredgewidth=0.3,
                    label=ratio_label(snr_db),
                    zorder=3,
                )
                unprocessed = summary.mean(condition, UNPROCESSED, measure, snr_db).value
                axis.axhline(unprocessed, color=colour, linewidth=0.9, linestyle="--", zorder=1)
            if measure == "si_sdr_db":
                axis.set_ylim(_SI_SDR_LIMITS_DB)
            axis.grid(axis="y", color=GRID)
            tidy(axis)
        grid[0, column].set_title(AMPLITUDES[amplitude], fontsize=9, color=INK)
        names = [PHASES[phase].replace(" from ", "\nfrom ").replace(" of ", "\nof ") for phase in phases]
        grid[-1, column].set_xticks(range(len(phases)), names, rotation=90, fontsize=8)
    for axis, measure in zip(grid[:, 0], _SCORED, strict=True):
        axis.set_ylabel(MEASURE_NAMES[measure], fontsize=9, color=INK)
    figure.supxlabel("phase", fontsize=9, color=INK)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    unprocessed_line = grid[0, 0].plot([], [], color=INK, linewidth=0.9, linestyle="--")
    figure.legend(
        [*handles, *unprocessed_line],
        [*labels, "unprocessed"],
        loc="outside upper center",
        ncols=len(labels) + 1,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
    )
    return figure


def curve_panels(curves: Mapping[tuple[str, str], Sequence[Curves]]) -> "Figure":
    """Phase error, error of its advance and inconsistency against the local ratio, with 95 % confidence intervals.

    Args:
        curves: Measures of every mixture by amplitude and phase.

    Returns:
        Figure: a row per drawn amplitude, a line per phase.

    Raises:
        MissingExtraError: The package matplotlib or scipy is not installed.
    """
    figure = new_figure(11.0, 6.6)
    grid = figure.subplots(len(_DRAWN), len(_PANELS), squeeze=False, sharex=True, sharey="col")
    shown = {}
    for row, amplitude in zip(grid, _DRAWN, strict=True):
        for axis, (measure, label) in zip(row, _PANELS.items(), strict=True):
            for phase in PHASES:
                # True phases have no error, and the spectrum of a signal no inconsistency, but rounding.
                exact = phase == CLEAN and (amplitude == CLEAN or measure != "inconsistency_db")
                if (amplitude, phase) not in curves or exact:
                    continue
                means = class_means(curves[amplitude, phase], measure)
                colour, line, mark = _STYLES[phase]
                shown[PHASES[phase]] = axis.errorbar(
                    CENTRES_DB,
                    [each.value for each in means],
                    yerr=np.nan_to_num([each.half_width for each in means]),
                    color=colour,
                    linestyle=line,
                    marker=mark,
                    markersize=4,
                    linewidth=1.2,
                    elinewidth=0.7,
                    capsize=1.5,
                )
            axis.set_title(f"{AMPLITUDES[amplitude]}", fontsize=9, color=INK)
            axis.set_ylabel(label, fontsize=9, color=INK)
            axis.grid(color=GRID)
            tidy(axis)
    for axis in grid[:, :2].flat:
        axis.set_ylim(bottom=0.0)
    figure.supxlabel("local signal-to-noise ratio in dB", fontsize=9, color=INK)
    names = [name for name in PHASES.values() if name in shown]
    figure.legend(
        [shown[name] for name in names],
        names,
        loc="outside upper center",
        ncols=4,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
    )
    return figure


def class_means(curves: Sequence[Curves], measure: str) -> list[Mean]:
    """Mean over mixtures, with its interval, of every class of local ratios.

    Args:
        curves: Measures of every mixture.
        measure: Name of one of them.

    Returns:
        One mean per class; undefined where fewer than two mixtures have a value.
    """
    columns = zip(*(getattr(each, measure) for each in curves), strict=True)
    means = [mean(column) for column in columns]
    return [each if each.defined > 1 else Mean(math.nan, math.nan, 0, each.defined + each.undefined) for each in means]
