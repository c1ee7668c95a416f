"""Slices to learn from and to test with, and their division by slab."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from images.packages import require_packages
from sottovoce.errors import DataError

Images = NDArray[np.float32]

MIN_SIDE = 64
"""Rows and columns that a slice has at least, in pixels."""

_ORDER = ("clean", "noisy", "test", "development", "clean", "noisy", "test")
_MIN_THICKNESS = 4
# Part of a slice's pixels that are brighter than a tenth of the volume's brightest: less is a slice of air.
_MIN_FILLED = 0.05


@dataclass(frozen=True)
class Split:
    """Which slices of a volume serve for what; slabs are apart, and no slice serves for two things.

    Attributes:
        clean: Positions of slices to learn from as they are.
        noisy: Positions of slices that are learned from with noise alone.
        development: Positions of slices by which the strengths of classical methods are chosen.
        test: Positions of slices to score.
    """

    clean: tuple[int, ...]
    noisy: tuple[int, ...]
    development: tuple[int, ...]
    test: tuple[int, ...]


def split(volume: Images, gap: int) -> Split:
    """Divide the slices that hold something into seven slabs, in order: clean, noisy, test, development, and again.

    Args:
        volume: Slices `(slices, rows, columns)`, from 0 to 1.
        gap: Slices between two slabs that serve for nothing, since neighbours look alike.

    Returns:
        The positions.

    Raises:
        DataError: There are too few slices.
    """
    filled = (volume > 0.1).mean(axis=(1, 2)) >= _MIN_FILLED
    positions = np.flatnonzero(filled)
    thickness = (len(positions) - (len(_ORDER) - 1) * gap) // len(_ORDER)
    if thickness < _MIN_THICKNESS:
        needed = len(_ORDER) * _MIN_THICKNESS + (len(_ORDER) - 1) * gap
        raise DataError(
            f"found {len(positions)} slices that are not all air, expected at least {needed}: give a larger volume"
        )
    parts: dict[str, list[int]] = {role: [] for role in _ORDER}
    for number, role in enumerate(_ORDER):
        first = number * (thickness + gap)
        parts[role] += positions[first : first + thickness].tolist()
    return Split(**{role: tuple(part) for role, part in parts.items()})


def brain() -> Images:
    """Coronal slices of the head of nobody: the average of 152 people, T1-weighted, 1 mm, as nilearn brings it.

    Left and right of this template are mirror images, so it is not divided from left to right.

    Returns:
        `(233, 189, 197)`, from 0 to 1, the crown of the head in the last rows.

    Raises:
        MissingExtraError: nilearn is not installed.
    """
    require_packages("The template of the brain", "nilearn")
    from nilearn.datasets import load_mni152_template

    values = load_mni152_template(resolution=1).get_fdata(dtype=np.float32)
    return scaled(np.ascontiguousarray(values.transpose(1, 2, 0)))


def retina() -> Images:
    """Parts of the photograph of a retina that scikit-image brings, its green channel at half the size.

    Returns:
        `(9, 112, 112)`, from 0 to 1.

    Raises:
        MissingExtraError: scikit-image is not installed.
    """
    require_packages("The photograph of a retina", "skimage")
    from skimage import data

    green = data.retina()[..., 1].astype(np.float32)
    rows, columns = (side // 2 for side in green.shape)
    half = green[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2).mean(axis=(1, 3))
    side, start = 112, (rows - 3 * 112) // 2
    middle = half[start : start + 3 * side, start : start + 3 * side]
    return scaled(middle.reshape(3, side, 3, side).swapaxes(1, 2).reshape(9, side, side))


def phantom(count: int = 112, side: int = 96, seed: int = 0) -> Images:
    """An ellipsoid of ellipsoids in air, for tests and trials: it needs no package.

    Args:
        count: Number of slices.
        side: Rows and columns.
        seed: Where the inner ellipsoids are.

    Returns:
        `(count, side, side)`, from 0 to 1.
    """
    generator = np.random.default_rng(seed)
    axes = [np.linspace(-1, 1, size, dtype=np.float32) for size in (count, side, side)]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    head = (z / 1.1) ** 2 + (y / 0.7) ** 2 + (x / 0.6) ** 2 <= 1
    volume = np.where(head, np.float32(0.6), np.float32(0))
    for _ in range(60):
        centre = generator.uniform(-0.6, 0.6, 3)
        radii = generator.uniform(0.08, 0.3, 3)
        inside = sum(((a - c) / r) ** 2 for a, c, r in zip((z, y, x), centre, radii, strict=True)) <= 1
        volume += np.where(inside & head, np.float32(generator.uniform(-0.15, 0.15)), np.float32(0))
    return scaled(np.clip(volume, 0, None))


def read_volume(path: Path) -> Images:
    """Read a volume of one's own.

    Args:
        path: Array `(slices, rows, columns)` of numbers of 0 and more, as `numpy.save` writes it; it must hold no
            Python objects.

    Returns:
        The volume, divided by its brightest value.

    Raises:
        DataError: The file is no such array, or holds values that cannot be used.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"cannot read {path} as an array of numpy ({error}): write it with numpy.save") from error
    if not isinstance(array, np.ndarray) or array.ndim != 3:
        found = f"{array.ndim} axes" if isinstance(array, np.ndarray) else "several arrays"
        raise DataError(f"found {found} in {path}, expected one array (slices, rows, columns): give such a volume")
    return scaled(checked(array, str(path)))


def checked(image: NDArray[np.generic], origin: str) -> Images:
    """See that a slice or a volume can be used.

    Args:
        image: `(..., rows, columns)`.
        origin: Where it comes from, for messages.

    Returns:
        The same as float32.

    Raises:
        DataError: It is no array of real numbers, too small, constant, negative or not finite.
    """
    if image.ndim < 2 or not (np.issubdtype(image.dtype, np.integer) or np.issubdtype(image.dtype, np.floating)):
        raise DataError(f"found an array {image.shape} of {image.dtype} in {origin}, expected numbers (rows, columns)")
    rows, columns = image.shape[-2:]
    if min(rows, columns) < MIN_SIDE or not image.size:
        raise DataError(
            f"found slices of {rows} x {columns} pixels in {origin}, expected at least {MIN_SIDE} x {MIN_SIDE}: give "
            "larger ones"
        )
    values = image.astype(np.float32)
    if bad := int((~np.isfinite(values)).sum()):
        raise DataError(f"found {bad} values in {origin} that are not finite, expected none: replace them first")
    if values.min() < 0:
        raise DataError(
            f"found the value {values.min():g} in {origin}, expected 0 or more: give magnitudes or counts, not "
            "normalised values"
        )
    if values.min() == values.max():
        raise DataError(f"found the value {values.min():g} everywhere in {origin}, expected an image: give another one")
    return values


def scaled(volume: Images) -> Images:
    """Divide by the brightest value."""
    divided: Images = volume / volume.max()
    return divided
