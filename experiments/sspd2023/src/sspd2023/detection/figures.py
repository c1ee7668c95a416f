"""Figures of the page on detection, in the style of `metrics.plots`."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from sottovoce.metrics.plots import COLOURS, GRID, INK, new_figure, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_JITTER = 0.28


def area_map(areas: Mapping[str, Mapping[str, float]]) -> "Figure":
    """Areas under the ROC as a map: a row per score, a column per kind of clips.

    Args:
        areas: Area by score and kind; all scores have the same kinds.

    Returns:
        The figure: white is chance, blue what is told apart, orange what is told apart the wrong way round.

    Raises:
        MissingExtraError: The package matplotlib is not installed.
    """
    from matplotlib.colors import LinearSegmentedColormap

    scores = list(areas)
    kinds = list(areas[scores[0]])
    values = np.array([[areas[score][kind] for kind in kinds] for score in scores])
    figure = new_figure(1.6 + 0.52 * len(kinds), 1.5 + 0.36 * len(scores))
    axis = figure.subplots()
    colours = LinearSegmentedColormap.from_list("chance in the middle", [COLOURS[2], "white", COLOURS[0]])
    axis.imshow(values, cmap=colours, vmin=0, vmax=1, aspect="auto")
    for row, column in np.ndindex(values.shape):
        is_dark = abs(values[row, column] - 0.5) > 0.3
        axis.text(
            column,
            row,
            f"{values[row, column]:.2f}",
            ha="center",
            va="center",
            fontsize=7.5,
            color="white" if is_dark else INK,
        )
    axis.set_xticks(range(len(kinds)), kinds, rotation=50, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(scores)), scores)
    tidy(axis)
    return figure


def strips(values: Mapping[str, Mapping[str, Sequence[float]]], limits: Mapping[str, float], label: str) -> "Figure":
    """Every recording as a point: a panel per model, a row per kind.

    Args:
        values: By model and kind.
        limits: Where to draw a line, by model.
        label: What the values are.

    Returns:
        The figure.

    Raises:
        MissingExtraError: The package matplotlib is not installed.
    """
    kinds = list(next(iter(values.values())))
    figure = new_figure(4.2 * len(values), 0.9 + 0.32 * len(kinds))
    axes = figure.subplots(1, len(values), sharey=True, squeeze=False)[0]
    rng = np.random.default_rng(0)
    for axis, (model, by_kind) in zip(axes, values.items(), strict=True):
        for row, kind in enumerate(kinds):
            found = np.asarray(by_kind[kind])
            places = row + rng.uniform(-_JITTER, _JITTER, found.size)
            axis.plot(found, places, "o", markersize=3, alpha=0.6, color=COLOURS[0], markeredgewidth=0)
            axis.plot([np.median(found)] * 2, [row - 0.4, row + 0.4], color=INK, linewidth=1.4)
        if model in limits:
            axis.axvline(limits[model], color=COLOURS[2], linewidth=1.2, linestyle="--")
        axis.set_title(model, fontsize=9, color=INK)
        axis.set_xlabel(label, fontsize=9, color=INK)
        axis.set_xlim(-0.02, 1.0)
        axis.grid(axis="x", color=GRID)
        tidy(axis)
    axes[0].set_yticks(range(len(kinds)), kinds)
    axes[0].invert_yaxis()
    return figure
