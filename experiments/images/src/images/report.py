"""Tables and figures of an experiment."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from images.classical import STRENGTHS
from images.experiment import CEILING, SLICES, UNPROCESSED, UNSEEN, Experiment, Result, example
from images.noise import Noise
from images.training import JOINT, PAIRED, PUBLISHED, SIMULATED, SYSTEMS
from sottovoce.atomic import replacing
from sottovoce.metrics.plots import INK, new_figure, save
from sottovoce.metrics.report import Mean, markdown_table, mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LABELS = {
    UNPROCESSED: UNPROCESSED,
    **{method: method for method in STRENGTHS},
    **{name: system.label for name, system in SYSTEMS.items()},
    CEILING: "clean slice through E_S, D_S",
}
"""What systems are called, in the order of the tables."""

MEASURES = {"psnr_db": ("PSNR", ".2f"), "ssim": ("SSIM", ".3f")}
_METHOD = """\
Not for clinical use. PSNR in dB and SSIM, over tissue; more is better. Intervals are 95 % confidence intervals
(Student's t) over slices, for these seeds: the value of a slice is the mean over the seeds. Slices of a slab look
alike, so that intervals are too narrow for other heads."""
_COMPARED = (*STRENGTHS, SIMULATED, PAIRED)
_SHOWN = (UNPROCESSED, *STRENGTHS, PUBLISHED, JOINT, PAIRED, "truth")


def write(wanted: Experiment, results: Sequence[Result], out: Path) -> list[Path]:
    """Write results.md and the figures.

    Args:
        wanted: The experiment.
        results: What `experiment.conduct` gave.
        out: Its folder.

    Returns:
        What was written, results.csv first.
    """
    figures = []
    for noise in wanted.noises:
        path = out / f"{noise.name.lower()}.png"
        save(examples(noise, out), path)
        figures.append(path)
    page = out / "results.md"
    with replacing(page) as temporary:
        temporary.write_text("\n".join(page_lines(wanted.noises, results, out)), encoding="utf-8")
    return [out / "results.csv", page, *figures]


def page_lines(noises: Sequence[Noise], results: Sequence[Result], out: Path) -> list[str]:
    """The page of all tables.

    Args:
        noises: The instruments.
        results: What `experiment.conduct` gave.
        out: Folder of the experiment, for the strengths of classical methods.

    Returns:
        Lines of Markdown.
    """
    lines = ["# Images: results", "", *_METHOD.splitlines(), ""]
    for noise in noises:
        on_slices, on_unseen = (
            [result for result in results if (result.noise, result.images) == (noise.name, images)]
            for images in (SLICES, UNSEEN)
        )
        lines += [f"## {noise.name} noise", "", *markdown_table(score_table(on_slices, noise)), ""]
        lines += ["Differences in PSNR:", "", *markdown_table(difference_table(on_slices, noise)), ""]
        lines += ["PSNR of each seed, over all levels:", "", *markdown_table(seed_table(on_slices)), ""]
        strengths = (out / "strengths" / f"{noise.name}.csv").read_text(encoding="utf-8").splitlines()
        lines += ["Strengths that development slices chose, as multiples of the deviation of the noise:", ""]
        lines += [*markdown_table([line.split(",") for line in strengths]), ""]
        if on_unseen:
            lines += [f"## {noise.name} noise, images of another kind: a retina", ""]
            lines += [*markdown_table(score_table(on_unseen, noise)), ""]
    return lines


def score_table(results: Sequence[Result], noise: Noise) -> list[list[str]]:
    """Means over slices with 95 % intervals; the value of a slice is the mean over the seeds that did not diverge.

    Args:
        results: Those of one instrument and kind of images.
        noise: The instrument.

    Returns:
        Rows of text, the heading first.
    """
    columns = [(measure, level) for measure in MEASURES for level in noise.levels]
    rows = [["", *(f"{MEASURES[measure][0]}, {_level(noise, level)}" for measure, level in columns)]]
    for system in _present(results):
        cells = [
            format(mean(list(_values(results, system, measure, level).values())), MEASURES[measure][1])
            for measure, level in columns
        ]
        rows.append([LABELS[system] + _diverged(results, system), *cells])
    return rows


def difference_table(results: Sequence[Result], noise: Noise) -> list[list[str]]:
    """How much higher the PSNR of the unpaired system is than that of others, with 95 % intervals.

    Args:
        results: Those of one instrument and kind of images.
        noise: The instrument.

    Returns:
        Rows of text, the heading first.
    """
    rows = [[f"{LABELS[JOINT]} less", *(_level(noise, level) for level in noise.levels)]]
    for system in _present(results):
        if system in _COMPARED:
            rows.append([LABELS[system], *(f"{_difference(results, system, level):+.2f}" for level in noise.levels)])
    return rows


def _difference(results: Sequence[Result], system: str, level: float) -> Mean:
    ours, theirs = (_values(results, name, "psnr_db", level) for name in (JOINT, system))
    return mean([value - theirs[position] for position, value in ours.items() if position in theirs])


def seed_table(results: Sequence[Result]) -> list[list[str]]:
    """Mean PSNR of each training over slices and levels; one that diverged says so.

    Args:
        results: Those of one instrument and kind of images.

    Returns:
        Rows of text, the heading first.
    """
    seeds = sorted({result.seed for result in results if result.seed is not None})
    rows = [["", *(f"seed {seed}" for seed in seeds)]]
    for system in _present(results):
        cells = []
        for seed in seeds:
            values = [each.scores.psnr_db for each in results if (each.system, each.seed) == (system, seed)]
            cells.append("diverged" if any(map(math.isnan, values)) else f"{np.mean(values):.2f}" if values else "–")
        if any(result.seed is not None for result in results if result.system == system):
            rows.append([LABELS[system], *cells])
    return rows


def _present(results: Sequence[Result]) -> list[str]:
    found = {result.system for result in results}
    return [system for system in LABELS if system in found]


def _values(results: Sequence[Result], system: str, measure: str, level: float) -> dict[int, float]:
    """Means over the defined seeds by slice; NaN where no seed is defined."""
    by_slice: dict[int, list[float]] = {}
    for result in results:
        if (result.system, result.level) == (system, level):
            value = float(getattr(result.scores, measure))
            by_slice.setdefault(result.position, [])
            if not math.isnan(value):
                by_slice[result.position].append(value)
    return {position: float(np.mean(values)) if values else math.nan for position, values in by_slice.items()}


def _diverged(results: Sequence[Result], system: str) -> str:
    seeds = {result.seed for result in results if result.system == system}
    undefined = {each.seed for each in results if each.system == system and math.isnan(each.scores.psnr_db)}
    return f" ({len(undefined)} of {len(seeds)} seeds diverged)" if undefined else ""


def _level(noise: Noise, level: float) -> str:
    return f"σ {level:g}" if noise.unit == "σ" else f"{level:g} counts"


def examples(noise: Noise, out: Path) -> "Figure":
    """A test slice at the heaviest level: as each system gives it, and what it differs from the truth.

    Args:
        noise: The instrument.
        out: Folder of the experiment.

    Returns:
        The figure.
    """
    truth = np.load(example(out, noise.name, "truth"))
    shown = [system for system in _SHOWN if example(out, noise.name, system).exists()]
    rows, columns = np.nonzero(truth > truth.min() + 0.02)
    middle = slice(max(rows.min() - 4, 0), rows.max() + 5), slice(max(columns.min() - 4, 0), columns.max() + 5)
    height, width = truth[middle].shape
    figure = new_figure(1.9 * len(shown), 3.8 * height / width + 0.7)
    axes = figure.subplots(2, len(shown), squeeze=False)
    for (above, below), system in zip(axes.T, shown, strict=True):
        image = np.load(example(out, noise.name, system))
        above.imshow(image[middle], cmap="gray", vmin=0, vmax=1, origin="lower")
        above.set_title("without noise" if system == "truth" else LABELS[system].strip("*"), fontsize=8, color=INK)
        if system != "truth":
            below.imshow((image - truth)[middle], cmap="RdBu_r", vmin=-0.3, vmax=0.3, origin="lower")
        for axis in (above, below):
            axis.set_axis_off()
    figure.suptitle(
        f"{noise.name} noise, {_level(noise, noise.levels[-1])}; below, the error from −0.3 to 0.3",
        fontsize=9,
        color=INK,
    )
    return figure
