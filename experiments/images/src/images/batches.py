"""What a step sees: patches of clean and noisy slices, noise of air, and clean patches with that noise on them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from images.noise import Noise, air_blocks, level_of
from images.objective import Batch
from images.slices import Images

PATCH = 64
"""Rows and columns of a patch, in pixels."""

_Item = TypeVar("_Item")
_BLOCK = 16  # pixels
# Clean images are seen at the scale that they have inside noisy ones, whose brightest local mean noise has raised.
_GAINS = (0.8, 1.0)


@dataclass(frozen=True)
class NoisySlice:
    """A noisy slice as training sees it.

    Attributes:
        image: `(rows, columns)`, in the representation, at scale 1.
        air: Blocks of it without anything, `(blocks, side, side)`.
    """

    image: Images
    air: Images


def noisy_slice(measured: Images, noise: Noise) -> NoisySlice:
    """Prepare a measured slice: representation, scale, air.

    Args:
        measured: `(rows, columns)` in units.
        noise: The instrument.

    Returns:
        What training needs of it.

    Raises:
        DataError: It has no air.
    """
    represented = noise.represent(measured)
    scaled = represented / np.float32(level_of(represented))
    return NoisySlice(scaled, air_blocks(scaled, _BLOCK))


class UnpairedPatches:
    """Batches of an unpaired training: it is given clean slices, and noisy slices of others.

    Args:
        clean: Clean slices `(slices, rows, columns)`, as the instrument would see them.
        measured: Noisy slices `(slices, rows, columns)` in units.
        noise: The instrument.
        seed: Seed of all draws.
    """

    counts: Mapping[str, int] = {"clean": 2, "noisy": 2, "air": 1, "simulated": 6}

    def __init__(self, clean: Images, measured: Images, noise: Noise, seed: int) -> None:
        represented = noise.represent_clean(clean)
        self._clean = [image / np.float32(level_of(image)) for image in represented]
        self._noisy = [noisy_slice(image, noise) for image in measured]
        self._noise = noise
        self._seed = seed

    def batch(self, step: int) -> Batch:
        """Draw the batch of a step, which depends on the step and the seed alone.

        Args:
            step: Its number.

        Returns:
            Patches as tensors.
        """
        generator = np.random.default_rng([self._seed, step])
        counts = self.counts
        clean = self._clean_patches(counts["clean"], generator)
        noisy = np.stack([_patch(_any(self._noisy, generator).image, generator) for _ in range(counts["noisy"])])
        air = self._air(counts["air"], generator)
        pairs = self._pairs(counts["simulated"], generator)
        parts = (clean, noisy, air, self._noise.of_nothing(air), *pairs)
        return Batch(*(torch.from_numpy(np.array(part, dtype=np.float32)).unsqueeze(1) for part in parts))

    def _pairs(self, count: int, generator: np.random.Generator) -> tuple[Images, Images]:
        """Clean patches with noise of air on them, and without."""
        clean = self._clean_patches(count, generator)
        return self._noise.mix(clean, self._air(count, generator), generator), clean

    def _clean_patches(self, count: int, generator: np.random.Generator) -> Images:
        gains = generator.uniform(*_GAINS, (count, 1, 1)).astype(np.float32)
        patches: Images = gains * np.stack([_patch(_any(self._clean, generator), generator) for _ in range(count)])
        return patches

    def _air(self, count: int, generator: np.random.Generator) -> Images:
        """Patches of noise, each made of blocks of one noisy slice."""
        return np.stack([_mosaic(_any(self._noisy, generator).air, generator) for _ in range(count)])


class PairedPatches(UnpairedPatches):
    """Batches of the bound, which knows what nobody has: the clean versions of the noisy slices, and the noise.

    Args:
        clean: Clean slices, as for `UnpairedPatches`.
        measured: Noisy slices, as for `UnpairedPatches`.
        noise: The instrument.
        seed: Seed of all draws.
        answers: Of each noisy slice, what it is without noise, as the instrument would see it, and its level.
    """

    def __init__(
        self, clean: Images, measured: Images, noise: Noise, seed: int, *, answers: Sequence[tuple[Images, float]]
    ) -> None:
        super().__init__(clean, measured, noise, seed)
        scales = [level_of(noise.represent(image)) for image in measured]
        self._answers = [(*answer, scale) for answer, scale in zip(answers, scales, strict=True)]

    def _pairs(self, count: int, generator: np.random.Generator) -> tuple[Images, Images]:
        """Patches of noisy slices whose noise is drawn again in every step, and their clean versions."""
        noisy, clean = [], []
        for _ in range(count):
            truth, level, scale = _any(self._answers, generator)
            patch = _patch(truth, generator)
            measured = self._noise.measure(patch, level, generator)
            noisy.append(self._noise.represent(measured) / np.float32(scale))
            clean.append(self._noise.represent_clean(self._noise.in_units(patch, level)) / np.float32(scale))
        return np.stack(noisy), np.stack(clean)


def _any(items: Sequence[_Item], generator: np.random.Generator) -> _Item:
    return items[int(generator.integers(len(items)))]


def _patch(image: Images, generator: np.random.Generator) -> Images:
    """A patch from anywhere, perhaps mirrored or upside down, with something in it: of three, the brightest."""
    rows, columns = (side - PATCH + 1 for side in image.shape)
    corners = [(int(generator.integers(rows)), int(generator.integers(columns))) for _ in range(3)]
    patches = [image[row : row + PATCH, column : column + PATCH] for row, column in corners]
    patch = max(patches, key=lambda each: float(each.mean()))
    return _turned(patch, generator)


def _mosaic(blocks: Images, generator: np.random.Generator) -> Images:
    """Blocks from anywhere in the air of a slice, side by side."""
    count = PATCH // blocks.shape[-1]
    rows = [
        [_turned(blocks[int(generator.integers(len(blocks)))], generator) for _ in range(count)] for _ in range(count)
    ]
    return np.block(rows)


def _turned(patch: Images, generator: np.random.Generator) -> Images:
    vertical, horizontal = generator.choice((-1, 1), 2)
    return patch[::vertical, ::horizontal]
