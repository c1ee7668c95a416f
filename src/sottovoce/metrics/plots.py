"""Figures: scores of two or more systems, and recordings before and after.

Only matplotlib's object interface is used: no window, no global state, safe in threads.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sottovoce.atomic import replacing
from sottovoce.errors import ConfigError, printable
from sottovoce.extras import require
from sottovoce.metrics.intrusive import FloatArray
from sottovoce.metrics.report import Mean
from sottovoce.metrics.scores import LOWER_IS_BETTER, MEASURE_NAMES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0b6e99", "#b8bec4", "#e08e2b", "#5a8f4e")
"""Of systems; distinct for people who are colour-blind, too."""
INK = "#2b2f33"
"""Of text, axes and intervals."""
GRID = "#e3e6e8"
"""Of grid lines."""

_DPI = 150

# One panel per unit, so that every bar can be read off its own axis.
_PANELS: dict[str, tuple[str, ...]] = {
    "opinion score, 1 to 5": (
        "pesq_wb",
        "pesq_nb",
        "csig",
        "cbak",
        "covl",
        "dnsmos_sig",
        "dnsmos_bak",
        "dnsmos_ovrl",
    ),
    "intelligibility": ("stoi", "estoi"),
    "dB": ("si_sdr_db", "seg_snr_db"),
    "distance": ("llr",),
    "distance in dB": ("wss",),
}
# Of the axes. An interval may reach beyond what a measure can be; room above the largest value keeps its cap visible.
_LIMITS: dict[str, tuple[float, float | None]] = {
    "opinion score, 1 to 5": (1.0, 5.1),
    "intelligibility": (0.0, 1.025),
    "distance": (0.0, None),
    "distance in dB": (0.0, None),
}

_WINDOW_SECONDS = 0.032
_MAX_COLUMNS = 1600
_DYNAMIC_RANGE_DB = 80.0


def score_chart(means: Mapping[str, Mapping[str, Mean]], *, title: str = "") -> "Figure":
    """Bar chart of the means with their 95 % confidence intervals, one panel per unit.

    Args:
        means: Means by system, then by measure, as `report.summarise` gives them; the first system is drawn last, on
            the right of the others. An undefined mean is marked "n/a".
        title: Heading of the figure.

    Returns:
        Figure, 12 x 4 inches.

    Raises:
        MissingExtraError: The package matplotlib is not installed.
    """
    figure = new_figure(12.0, 4.2)
    # Colours belong to systems, wherever they stand.
    systems = list(zip(means, _cycle(len(means)), strict=True))[::-1]
    axes = figure.subplots(1, len(_PANELS), width_ratios=[len(names) + 0.6 for names in _PANELS.values()])
    width = 0.8 / len(systems)
    for axis, (unit, names) in zip(axes, _PANELS.items(), strict=True):
        for index, (system, colour) in enumerate(systems):
            places = np.arange(len(names)) + (index - (len(systems) - 1) / 2.0) * width
            values = [means[system][name] for name in names]
            heights = np.nan_to_num([mean.value for mean in values])
            axis.bar(places, heights, 0.92 * width, color=colour, label=plain(system), zorder=2)
            axis.errorbar(
                places,
                heights,
                np.nan_to_num([mean.half_width for mean in values]),
                fmt="none",
                ecolor=INK,
                elinewidth=1.0,
                capsize=2.5,
                zorder=3,
            )
            for place, mean in zip(places, values, strict=True):
                if math.isnan(mean.value):
                    axis.annotate(
                        "n/a", (place, 0.02), xycoords=("data", "axes fraction"), ha="center", color=INK, fontsize=7
                    )
        ticks = [MEASURE_NAMES[name].removesuffix(" in dB").replace(" ", "\n") for name in names]
        axis.set_xticks(range(len(names)), ticks, fontsize=8)
        axis.set_xlim(-0.6, len(names) - 0.4)
        axis.set_ylim(*_LIMITS.get(unit, (None, None)))
        better = "lower" if LOWER_IS_BETTER.issuperset(names) else "higher"
        axis.set_title(f"{unit}\n({better} is better)", fontsize=9, color=INK)
        tidy(axis)
        axis.grid(axis="y", color=GRID)
        axis.axhline(0.0, color=INK, linewidth=0.6, zorder=2)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(systems), frameon=False, fontsize=9)
    figure.suptitle(plain(title), fontsize=12, color=INK)
    return figure


def recordings(signals: Sequence[tuple[str, FloatArray, int]]) -> "Figure":
    """Waveforms and spectrograms side by side, on shared scales.

    Args:
        signals: Title, samples `(samples,)` with full scale ±1, and rate in Hz of each recording.

    Returns:
        Figure, one column per recording: waveform above; below the spectrogram in dB relative to the loudest point of
        all recordings.

    Raises:
        MissingExtraError: The package matplotlib is not installed.
    """
    figure = new_figure(1.6 + 4.6 * len(signals), 5.0)
    axes = figure.subplots(2, len(signals), squeeze=False, sharex=True, sharey="row", height_ratios=[1.0, 2.4])
    seconds = max(len(samples) / rate for _, samples, rate in signals)
    peak = max(float(np.max(np.abs(samples), initial=0.0)) for _, samples, _ in signals)
    spectrograms = [spectrogram_db(samples, rate) for _, samples, rate in signals]
    top = max(float(np.max(spectrogram)) for spectrogram in spectrograms)
    for column, ((title, samples, rate), spectrogram) in enumerate(zip(signals, spectrograms, strict=True)):
        wave, time_frequency = axes[:, column]
        low, high = _envelope(samples)
        wave.fill_between(
            np.linspace(0.0, len(samples) / rate, len(low)), low, high, color=COLOURS[0], linewidth=0.4, step="mid"
        )
        wave.set_title(plain(title), fontsize=10, color=INK)
        wave.set_ylim(-1.05 * (peak or 1.0), 1.05 * (peak or 1.0))
        wave.grid(color=GRID)
        draw_spectrogram(time_frequency, spectrogram - top, len(samples) / rate, rate)
        time_frequency.set_xlim(0.0, seconds)
        time_frequency.set_ylim(0.0, max(rate for _, _, rate in signals) / 2000.0)
        time_frequency.set_xlabel("time in s", fontsize=9, color=INK)
        for axis in (wave, time_frequency):
            tidy(axis)
    axes[0, 0].set_ylabel("amplitude", fontsize=9, color=INK)
    axes[1, 0].set_ylabel("frequency in kHz", fontsize=9, color=INK)
    figure.align_ylabels(axes[:, 0])
    # All spectrograms have one scale, so any of them serves.
    add_level_bar(figure, axes[1, 0].images[0], axes[1, :])
    return figure


def curves(rows: Sequence[Mapping[str, str]], *, logarithmic: bool) -> "Figure":
    """Values of a training over its steps, one panel per value and stage.

    Args:
        rows: Rows of a run's table: `stage`, `step` and one column per value, empty where there is none.
        logarithmic: Whether the vertical axes are logarithmic.

    Returns:
        The figure.
    """
    names = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in ("stage", "step")]
    series: dict[tuple[str, str], tuple[list[int], list[float]]] = {}
    for row in rows:
        for name in names:
            if row.get(name):
                steps, values = series.setdefault((row["stage"], name), ([], []))
                steps.append(int(row["step"]))
                values.append(float(row[name]))
    columns = min(4, len(series))
    lines = math.ceil(len(series) / columns)
    figure = new_figure(3.2 * columns, 2.1 * lines)
    axes = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axis, ((stage, name), (steps, values)) in zip(axes, series.items(), strict=False):
        axis.plot(steps, values, color=COLOURS[0], linewidth=1.2, marker="." if len(steps) < 20 else None)
        axis.set_title(f"{stage}: {name.replace('_', ' ')}", fontsize=9, color=INK)
        if logarithmic and min(values) > 0:
            axis.set_yscale("log")
        axis.grid(color=GRID, linewidth=0.6)
        tidy(axis)
    for axis in axes[len(series) :]:
        axis.set_visible(False)
    figure.supxlabel("step", fontsize=9, color=INK)
    return figure


def noise_spectra(bands_db: NDArray[np.float64], centres_hz: NDArray[np.float64]) -> "Figure":
    """Spectra of the noise of several recordings, and their mean.

    Args:
        bands_db: Levels in dB re full scale, `(recordings, bands)`.
        centres_hz: Centres of the bands, `(bands,)`.

    Returns:
        The figure.

    Raises:
        MissingExtraError: The package matplotlib is not installed.
    """
    figure = new_figure(6.0, 3.4)
    axis = figure.subplots()
    for index, levels_db in enumerate(bands_db):
        label = "one recording" if index == 0 else None
        axis.plot(centres_hz, levels_db, color=COLOURS[1], linewidth=0.7, label=label)
    axis.plot(centres_hz, bands_db.mean(axis=0), color=COLOURS[0], linewidth=2.0, label="mean")
    axis.set_xscale("log")
    ticks = [125, 250, 500, 1000, 2000, 4000, 8000]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    axis.set_xlabel("frequency in Hz", fontsize=9, color=INK)
    axis.set_ylabel("noise in dB per third of an octave", fontsize=9, color=INK)
    axis.grid(color=GRID)
    axis.legend(frameon=False, fontsize=8, labelcolor=INK)
    tidy(axis)
    return figure


def plain(name: str) -> str:
    """A name that matplotlib shows as it is: between dollar signs it would see mathematics."""
    return printable(name).replace("$", r"\$")


def save(figure: "Figure", path: Path, *, overwrite: bool = True) -> None:
    """Write a figure atomically; the suffix chooses the format.

    Args:
        figure: What to write.
        path: Target with a suffix that matplotlib knows, such as .png or .pdf.
        overwrite: Replace a file of this name.

    Raises:
        ConfigError: The suffix names no known format.
        DataError: There is a file of this name, and it is not to be replaced.
    """
    formats = figure.canvas.get_supported_filetypes()
    if path.suffix[1:].lower() not in formats:
        known = ", ".join(f".{name}" for name in sorted(formats))
        raise ConfigError(f"found the figure name {path}, expected one of the suffixes {known}")
    with replacing(path, overwrite=overwrite) as temporary:
        figure.savefig(temporary, dpi=_DPI, facecolor="white")


def save_animation(
    pictures: Iterable[NDArray[np.uint8]], path: Path, *, pictures_per_second: float, overwrite: bool = True
) -> None:
    """Write pictures that follow one another, atomically, small enough for a page.

    Args:
        pictures: Pictures `(height, width, 3)`, one or more.
        path: Target with the suffix .gif or .webp.
        pictures_per_second: How fast they follow.
        overwrite: Replace a file of this name.

    Raises:
        DataError: There is a file of this name, and it is not to be replaced.
        MissingExtraError: The package pillow, which comes with matplotlib, is not installed.
    """
    require("metrics", "An animation", "PIL")
    from PIL import Image

    first, *others = [Image.fromarray(picture) for picture in pictures]
    with replacing(path, overwrite=overwrite) as temporary:
        # The format of a temporary file is that of its suffix; WebP's quality, and what GIF does not know of.
        first.save(
            temporary,
            save_all=True,
            append_images=others,
            duration=round(1000 / pictures_per_second),
            loop=0,
            quality=60,
            method=4,
        )


def new_figure(width: float, height: float) -> "Figure":
    """Empty figure whose parts are laid out without overlap.

    Args:
        width: In inches.
        height: In inches.

    Returns:
        The figure.

    Raises:
        MissingExtraError: The package matplotlib is not installed.
    """
    require("metrics", "A figure", "matplotlib")
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def tidy(axis: Any) -> None:
    """Give an axis the style of all figures: thin lines on the left and at the bottom, small numbers.

    Args:
        axis: Axis of matplotlib.
    """
    axis.set_axisbelow(True)
    axis.tick_params(labelsize=8, colors=INK, length=2.5)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axis.spines[side].set_color(INK)
        axis.spines[side].set_linewidth(0.6)


def spectrogram_db(samples: FloatArray, rate: int) -> NDArray[np.float64]:
    """Spectrogram for a picture: windows of 32 ms, at most about 1600 frames.

    Args:
        samples: Samples `(samples,)`, full scale ±1.
        rate: Rate in Hz.

    Returns:
        Power `(freq, frames)` in dB re a full-scale sine, at least -120.
    """
    window = 2 * round(rate * _WINDOW_SECONDS / 2)
    hop = max(window // 4, len(samples) // _MAX_COLUMNS)
    padded = np.pad(samples, window // 2)
    hann = np.hanning(window)
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop] * hann
    magnitude = np.abs(np.fft.rfft(frames)) / (hann.sum() / 2.0)
    return np.asarray(20.0 * np.log10(np.maximum(magnitude, 1e-6)).T)


def draw_spectrogram(axis: Any, level_db: NDArray[np.float64], seconds: float, rate: int) -> None:
    """Draw a spectrogram on the scale of all figures, 80 dB below 0.

    Args:
        axis: Axis of matplotlib, in s and kHz.
        level_db: Power `(freq, frames)` in dB, 0 for the brightest colour.
        seconds: Length of the recording.
        rate: Its rate in Hz.
    """
    axis.imshow(
        level_db,
        origin="lower",
        aspect="auto",
        cmap="magma",
        vmin=-_DYNAMIC_RANGE_DB,
        vmax=0.0,
        interpolation="antialiased",
        extent=(0.0, seconds, 0.0, rate / 2000.0),
    )
    axis.set_facecolor("black")


def add_level_bar(figure: "Figure", image: Any, axes: Any) -> None:
    """Add the scale of spectrograms on their right.

    Args:
        figure: Figure that holds them.
        image: Any of them.
        axes: The axes beside which the scale stands.
    """
    bar = figure.colorbar(image, ax=axes, pad=0.01, aspect=24)
    bar.set_label("level in dB", fontsize=9, color=INK)
    bar.ax.tick_params(labelsize=8, colors=INK)
    bar.outline.set_visible(False)


def _cycle(count: int) -> list[str]:
    return [COLOURS[index % len(COLOURS)] for index in range(count)]


def _envelope(samples: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Least and greatest sample of each stretch that one column of the picture stands for."""
    edges = np.linspace(0, len(samples), min(_MAX_COLUMNS, len(samples)), endpoint=False, dtype=np.intp)
    return np.minimum.reduceat(samples, edges).astype(np.float64), np.maximum.reduceat(samples, edges).astype(
        np.float64
    )
