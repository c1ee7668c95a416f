"""Figures of a benchmark, in the style of `metrics.plots`.

Colours stand for signal-to-noise ratios, dark for high; they differ in lightness, so that they are distinct in grey
print and for readers who are colour-blind. Systems are distinguished by their place.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sottovoce.errors import DataError
from sottovoce.metrics.intrusive import FloatArray
from sottovoce.metrics.plots import (
    COLOURS,
    GRID,
    INK,
    add_level_bar,
    draw_spectrogram,
    new_figure,
    spectrogram_db,
    tidy,
)
from sottovoce.metrics.scores import MEASURE_NAMES
from sspd2023.results import UNPROCESSED, Summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = 4
_LIGHT = "#a9d3e4"
# Bars begin at the lowest value of a measure, or at 0 if it has none; all others are opinion scores from 1.
_MIN_SCORE = {"pesq_nb_raw": -0.5, "stoi": 0.0, "estoi": 0.0, "si_sdr_db": 0.0}


def score_bars(summary: Summary, condition: str, labels: Mapping[str, str], measure: str) -> "Figure":
    """Bars of the means with their 95 % confidence intervals, one group per system with a bar per SNR.

    Args:
        summary: Results.
        condition: Name of the test set.
        labels: What systems are called, from top to bottom; those without results are left out. A dashed line marks
            each SNR's mean of the unprocessed mixtures. An undefined mean is marked "n/a".
        measure: One of `MEASURE_NAMES`.

    Returns:
        Figure, 7 inches wide.

    Raises:
        MissingExtraError: The package matplotlib or scipy is not installed.
    """
    systems = _present(summary, condition, labels)
    snrs_db = summary.snrs_db(condition)
    thickness = 0.8 / len(snrs_db)
    base = _MIN_SCORE.get(measure, 1.0)
    figure = new_figure(7.0, 1.1 + len(systems) * max(0.28, 0.11 * len(snrs_db)))
    axis = figure.subplots()
    for index, (snr_db, colour) in enumerate(zip(snrs_db, shades(len(snrs_db)), strict=True)):
        places = np.arange(len(systems)) + (index - (len(snrs_db) - 1) / 2.0) * thickness
        means = [summary.mean(condition, system, measure, snr_db) for system in systems]
        lengths = np.nan_to_num([mean.value - base for mean in means])
        axis.barh(places, lengths, 0.92 * thickness, left=base, color=colour, label=ratio_label(snr_db), zorder=2)
        axis.errorbar(
            base + lengths,
            places,
            xerr=np.nan_to_num([mean.half_width for mean in means]),
            fmt="none",
            ecolor=INK,
            elinewidth=0.8,
            capsize=1.5,
            capthick=0.8,
            zorder=4,
        )
        for place, mean in zip(places, means, strict=True):
            if math.isnan(mean.value):
                axis.annotate(
                    "n/a", (base, place), (3, 0), textcoords="offset points", va="center", color=INK, fontsize=6
                )
        if UNPROCESSED in systems:
            unprocessed = summary.mean(condition, UNPROCESSED, measure, snr_db).value
            axis.axvline(unprocessed, color=colour, linewidth=0.9, linestyle="--", zorder=1)
    axis.axvline(base, color=INK, linewidth=0.6, zorder=3)
    axis.set_yticks(range(len(systems)), [labels[system] for system in systems])
    axis.set_ylim(len(systems) - 0.45, -0.55)
    axis.set_xlabel(MEASURE_NAMES[measure], fontsize=9, color=INK)
    tidy(axis)
    axis.tick_params(axis="y", length=0, labelsize=9)
    axis.spines["left"].set_visible(False)
    axis.grid(axis="x", color=GRID)
    if UNPROCESSED in systems:
        axis.plot([], [], color=INK, linewidth=0.9, linestyle="--", label=labels[UNPROCESSED])
    _legend(figure, axis)
    return figure


def spectrograms(signals: Sequence[tuple[str, FloatArray, int]]) -> "Figure":
    """Spectrograms in a grid of up to four columns, on shared scales.

    Args:
        signals: Title, samples `(samples,)` with full scale ±1, and rate in Hz of each: clean, noisy, then systems.

    Returns:
        Figure; levels in dB relative to the loudest point of all.

    Raises:
        MissingExtraError: The package matplotlib is not installed.
    """
    columns = min(_COLUMNS, len(signals))
    lines = math.ceil(len(signals) / columns)
    figure = new_figure(1.2 + 2.5 * columns, 0.5 + 1.75 * lines)
    levels_db = [spectrogram_db(samples, rate) for _, samples, rate in signals]
    top_db = max(float(np.max(level_db)) for level_db in levels_db)
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    axes = list(grid.flat)
    for axis, (title, samples, rate), level_db in zip(axes, signals, levels_db, strict=False):
        draw_spectrogram(axis, level_db - top_db, len(samples) / rate, rate)
        axis.set_title(title, fontsize=9, color=INK)
        tidy(axis)
    axes[0].set_xlim(0.0, max(len(samples) / rate for _, samples, rate in signals))
    axes[0].set_ylim(0.0, max(rate for _, _, rate in signals) / 2000.0)
    _finish(grid, len(signals))
    figure.supxlabel("time in s", fontsize=9, color=INK)
    figure.supylabel("frequency in kHz", fontsize=9, color=INK)
    # All have one scale, so any of them serves.
    add_level_bar(figure, axes[0].images[0], grid)
    return figure


def before_after(
    summary: Summary, condition: str, labels: Mapping[str, str], *, measure: str = "pesq_nb_raw"
) -> "Figure":
    """Every mixture's score before and after, one panel per system; points above the line are gains.

    Args:
        summary: Results, those of "unprocessed" among them.
        condition: Name of the test set.
        labels: What the systems to show are called, in order; those without results are left out.
        measure: One of `MEASURE_NAMES`.

    Returns:
        Figure with up to four panels in a row, each with the mean gain and its 95 % confidence interval.

    Raises:
        DataError: None of the systems has results, or "unprocessed" has none.
        MissingExtraError: The package matplotlib or scipy is not installed.
    """
    systems = [system for system in _present(summary, condition, labels) if system != UNPROCESSED]
    if not systems:
        raise DataError(f"found no results of {', '.join(labels)} in {condition}, expected those of a system: run one")
    columns = min(_COLUMNS, len(systems))
    lines = math.ceil(len(systems) / columns)
    figure = new_figure(0.6 + 2.0 * columns, 0.7 + 2.4 * lines)  # panels are about square
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    axes = list(grid.flat)
    snrs_db = summary.snrs_db(condition)
    shown = []
    for axis, system in zip(axes, systems, strict=False):
        for snr_db, colour in zip(snrs_db, shades(len(snrs_db)), strict=True):
            before = summary.values(condition, UNPROCESSED, measure, snr_db)
            after = summary.values(condition, system, measure, snr_db)
            points = np.array([(before[mixture], after[mixture]) for mixture in after if mixture in before])
            points = points.reshape(-1, 2)
            axis.scatter(
                *points.T, s=14, color=colour, edgecolor=INK, linewidth=0.3, label=ratio_label(snr_db), zorder=3
            )
            shown.append(points)
        axis.set_title(f"{labels[system]}\ngain {summary.gain(condition, system, measure)}", fontsize=9, color=INK)
    values = np.concatenate(shown)
    values = values[~np.isnan(values).any(axis=1)]
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    margin = 0.05 * (high - low) or 0.5
    for axis in axes[: len(systems)]:
        axis.plot([low - margin, high + margin], [low - margin, high + margin], color=INK, linewidth=0.7, zorder=2)
        axis.grid(color=GRID)
        tidy(axis)
    axes[0].set_xlim(low - margin, high + margin)
    axes[0].set_ylim(low - margin, high + margin)
    _finish(grid, len(systems))
    figure.supxlabel(f"{MEASURE_NAMES[measure]}, unprocessed", fontsize=9, color=INK)
    figure.supylabel(f"{MEASURE_NAMES[measure]}, processed", fontsize=9, color=INK)
    _legend(figure, axes[0])
    return figure


def _present(summary: Summary, condition: str, labels: Mapping[str, str]) -> list[str]:
    return [system for system in labels if system in summary.systems(condition)]


def shades(count: int) -> list[Any]:
    """Colours that stand for signal-to-noise ratios, from light for the lowest to dark.

    Args:
        count: Number of ratios.

    Returns:
        As many colours of matplotlib.
    """
    from matplotlib.colors import LinearSegmentedColormap

    shades = LinearSegmentedColormap.from_list("ratios", [_LIGHT, COLOURS[0]])
    return [shades(place) for place in (np.linspace(0.0, 1.0, count) if count > 1 else (1.0,))]


def ratio_label(snr_db: float) -> str:
    """What a signal-to-noise ratio in dB is called in legends."""
    return f"{snr_db:g} dB".replace("-", "−")


def _legend(figure: "Figure", axis: Any) -> None:
    handles, names = axis.get_legend_handles_labels()
    figure.legend(
        handles, names, loc="outside upper center", ncols=len(names), frameon=False, fontsize=9, labelcolor=INK
    )


def _finish(grid: NDArray[Any], count: int) -> None:
    """Hide panels that stay empty; those above them need numbers below, and so, for equal gaps, do all."""
    for index, axis in enumerate(grid.flat):
        axis.set_visible(index < count)
        if count < grid.size:
            axis.tick_params(labelbottom=True)
