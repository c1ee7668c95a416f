"""Figures of what a model does inside: its latents, its masks, and what it removes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sottovoce.metrics.intrusive import FloatArray
from sottovoce.metrics.plots import (
    COLOURS,
    GRID,
    INK,
    add_level_bar,
    draw_spectrogram,
    new_figure,
    plain,
    spectrogram_db,
    tidy,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FRAMES_PER_SECOND = 10
"""Of an animated walk."""

_TAIL_SECONDS = 0.6
_WALK_DPI = 80
_MAX_MASK_DB = 40.0
_QUIET_DB = -60.0  # noise below has the colour of this level

# What points are coloured by: name, label, colours, and limits where they are known beforehand.
_COLOURED_BY: tuple[tuple[str, str, str, tuple[float, float] | None], ...] = (
    ("voicing", "voicing (autocorrelation, 0 to 1)", "viridis", (0.4, 1.0)),
    ("noise_db", "noise in dB re full scale", "cividis", None),
    ("snr_db", "signal-to-noise ratio in dB", "coolwarm_r", (-20.0, 20.0)),
)


@dataclass(frozen=True)
class LatentTrack:
    """The way of a recording through the latent space, frame by frame.

    Attributes:
        name: What the recording is called.
        latent: Latents `(N, D)`.
        seconds: Time of each frame in the recording, `(N,)`.
        voicing: How clearly a voice sounds, 0 to 1, `(N,)`.
        noise_db: Level of what the model removes, in dB re full scale, `(N,)`.
        snr_db: Level of what it keeps above that, in dB, `(N,)`.
    """

    name: str
    latent: NDArray[np.float64]
    seconds: NDArray[np.float64]
    voicing: NDArray[np.float64]
    noise_db: NDArray[np.float64]
    snr_db: NDArray[np.float64]


def principal_plane(latents: Sequence[NDArray[np.float64]]) -> tuple[list[NDArray[np.float64]], tuple[float, float]]:
    """Project latents on the two directions in which they vary most.

    Args:
        latents: Of each recording, `(N, D)`; all share the plane.

    Returns:
        Points `(N, 2)` of each recording, and the shares of the variance along the two axes.
    """
    joined = np.concatenate(latents)
    mean = joined.mean(axis=0)
    variances, directions = np.linalg.eigh(np.atleast_2d(np.cov(joined, rowvar=False, bias=True)))
    axes = directions[:, ::-1][:, :2]
    # The sign of a direction is arbitrary: its largest part is positive, so that equal latents give equal pictures.
    axes = axes * np.sign(axes[np.argmax(np.abs(axes), axis=0), np.arange(axes.shape[1])])
    total = max(float(variances.sum()), np.finfo(np.float64).tiny)
    first, second = (float(variance) / total for variance in variances[::-1][:2])
    return [(latent - mean) @ axes for latent in latents], (first, second)


def latent_maps(tracks: Sequence[LatentTrack]) -> "Figure":
    """Latents of recordings in their common plane, coloured by voicing, noise and signal-to-noise ratio.

    Args:
        tracks: A row of the figure each.

    Returns:
        Figure; rows share axes and colours.

    Raises:
        MissingExtraError: The package matplotlib is not installed.
    """
    points, shares = principal_plane([track.latent for track in tracks])
    figure = new_figure(11.0, 0.6 + 3.1 * len(tracks))
    grid = figure.subplots(len(tracks), len(_COLOURED_BY), squeeze=False, sharex=True, sharey=True)
    for column, (quantity, label, colours, limits) in enumerate(_COLOURED_BY):
        low, high = limits or _span(np.concatenate([getattr(track, quantity) for track in tracks]))
        for row, (track, places) in enumerate(zip(tracks, points, strict=True)):
            axis = grid[row, column]
            drawn = axis.scatter(
                *places.T, c=getattr(track, quantity), cmap=colours, vmin=low, vmax=high, s=7, linewidth=0, alpha=0.85
            )
            axis.grid(color=GRID)
            tidy(axis)
            if column == 0:
                axis.set_title(plain(track.name), fontsize=9, color=INK, loc="left")
        bar = figure.colorbar(drawn, ax=grid[:, column], location="top", aspect=30, pad=0.02)
        bar.set_label(label, fontsize=9, color=INK)
        bar.ax.tick_params(labelsize=8, colors=INK)
        bar.outline.set_visible(False)
    figure.supxlabel(_axis_label("first", shares[0]), fontsize=9, color=INK)
    figure.supylabel(_axis_label("second", shares[1]), fontsize=9, color=INK)
    return figure


def latent_walk(track: LatentTrack, samples: FloatArray, rate: int) -> Iterator[NDArray[np.uint8]]:
    """Pictures of a recording's walk through the latent plane, beside its spectrogram.

    Args:
        track: Latents of the recording.
        samples: Its samples `(samples,)`, full scale ±1.
        rate: Its rate in Hz.

    Yields:
        Pictures `(height, width, 3)`, `FRAMES_PER_SECOND` of them per second of the recording.

    Raises:
        MissingExtraError: The package matplotlib is not installed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    (places,), shares = principal_plane([track.latent])
    length = len(samples) / rate
    figure = new_figure(8.6, 3.9)
    canvas: Any = FigureCanvasAgg(figure)
    figure.set_dpi(_WALK_DPI)
    plane, time_frequency = figure.subplots(1, 2, width_ratios=[1.0, 1.35])
    shown = plane.scatter(*places.T, c=track.voicing, cmap="viridis", vmin=0.4, vmax=1.0, s=6, linewidth=0, alpha=0.5)
    (tail,) = plane.plot([], [], color=COLOURS[2], linewidth=1.6, animated=True)
    (head,) = plane.plot([], [], "o", color=COLOURS[2], markersize=8, markeredgecolor=INK, animated=True)
    plane.set_xlabel(_axis_label("first", shares[0]), fontsize=8, color=INK)
    plane.set_ylabel(_axis_label("second", shares[1]), fontsize=8, color=INK)
    plane.set_title(plain(track.name), fontsize=9, color=INK, loc="left")
    bar = figure.colorbar(shown, ax=plane, location="bottom", aspect=30, pad=0.02)
    bar.set_label("voicing (0 to 1)", fontsize=8, color=INK)
    bar.ax.tick_params(labelsize=7, colors=INK)
    bar.outline.set_visible(False)
    level_db = spectrogram_db(samples, rate)
    draw_spectrogram(time_frequency, level_db - float(level_db.max()), length, rate)
    time_frequency.set_xlabel("time in s", fontsize=8, color=INK)
    time_frequency.set_ylabel("frequency in kHz", fontsize=8, color=INK)
    add_level_bar(figure, time_frequency.images[0], time_frequency)
    cursor = time_frequency.axvline(0.0, color="white", linewidth=1.2, animated=True)
    for axis in (plane, time_frequency):
        tidy(axis)
    canvas.draw()
    still = canvas.copy_from_bbox(figure.bbox)  # drawn once: what moves is drawn over it
    for index in range(max(1, round(length * FRAMES_PER_SECOND))):
        now = index / FRAMES_PER_SECOND
        recent = (track.seconds <= now) & (track.seconds > now - _TAIL_SECONDS)
        if not recent.any():
            recent[min(int(np.searchsorted(track.seconds, now)), len(recent) - 1)] = True
        tail.set_data(*places[recent].T)
        head.set_data(*places[recent][-1:].T)
        cursor.set_xdata([now, now])
        canvas.restore_region(still)
        for axis, mark in ((plane, tail), (plane, head), (time_frequency, cursor)):
            axis.draw_artist(mark)
        yield np.asarray(canvas.buffer_rgba())[..., :3].copy()


def masks(recordings: Sequence[tuple[str, FloatArray, FloatArray, int]]) -> "Figure":
    """What a model does to recordings: the recording, its gain in every bin, what it keeps and what it removes.

    Args:
        recordings: Title, samples `(samples,)` before and after with full scale ±1, and rate in Hz of each.

    Returns:
        Figure, a row per recording; levels in dB relative to its loudest point, gains in dB.

    Raises:
        MissingExtraError: The package matplotlib is not installed.
    """
    figure = new_figure(13.5, 0.5 + 2.7 * len(recordings))
    grid = figure.subplots(len(recordings), 4, squeeze=False, sharex="row", sharey="row")
    gains: Any = None
    for row, (title, before, after, rate) in zip(grid, recordings, strict=True):
        levels_db = [spectrogram_db(samples, rate) for samples in (before, after, before - after)]
        top_db, seconds = float(levels_db[0].max()), len(before) / rate
        for axis, level_db in zip(row[[0, 2, 3]], levels_db, strict=True):
            draw_spectrogram(axis, level_db - top_db, seconds, rate)
        gain_db = np.clip(levels_db[1] - levels_db[0], -_MAX_MASK_DB, 0.0)
        gains = row[1].imshow(
            gain_db,
            origin="lower",
            aspect="auto",
            cmap="cividis",
            vmin=-_MAX_MASK_DB,
            vmax=0.0,
            interpolation="antialiased",
            extent=(0.0, seconds, 0.0, rate / 2000.0),
        )
        row[0].set_title(plain(title), fontsize=9, color=INK)
        for axis, name in zip(row[1:], ("mask", "kept", "removed"), strict=True):
            axis.set_title(name, fontsize=9, color=INK)
        for axis in row:
            tidy(axis)
    figure.supxlabel("time in s", fontsize=9, color=INK)
    figure.supylabel("frequency in kHz", fontsize=9, color=INK)
    add_level_bar(figure, grid[0, 0].images[0], grid)
    bar = figure.colorbar(gains, ax=grid, pad=0.01, aspect=24)
    bar.set_label("gain in dB", fontsize=9, color=INK)
    bar.ax.tick_params(labelsize=8, colors=INK)
    bar.outline.set_visible(False)
    return figure


def _span(values: NDArray[np.float64]) -> tuple[float, float]:
    """Limits of colours that a few outliers do not set."""
    low, high = np.percentile(np.maximum(values, _QUIET_DB), [2.0, 98.0])
    return float(low), float(max(high, low + 1.0))


def _axis_label(which: str, share: float) -> str:
    return f"{which} principal component ({share:.0%} of the variance)"
