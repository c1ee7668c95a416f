"""Noise of two instruments, and how it is learned from air: stretches of a noisy image in which there is nothing.

Networks and losses see a representation of the measured values, so that noise of air can be put on anything: the
magnitude itself, or the root of counts. It is the power p of the amplitude that the method takes of spectra, 1 or 0.5.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from images.slices import Images
from sottovoce.errors import DataError


class Noise(Protocol):
    """What an instrument does to images.

    Attributes:
        name: What it is called in tables.
        levels: Those of the experiment, from light to heavy.
        unit: What a level is.
        biased: Whether noise shifts the mean of the representation, so that `unbiased` has something to do.
    """

    name: str
    levels: tuple[float, ...]
    unit: str
    biased: bool

    def clean(self, image: Images) -> Images:
        """What the instrument would measure without noise: the truth that is scored against, from 0 to 1."""
        ...

    def measure(self, clean: Images, level: float, generator: np.random.Generator) -> Images:
        """A measurement of `clean`, in the instrument's units."""
        ...

    def in_units(self, clean: Images, level: float) -> Images:
        """Clean values as the instrument's units."""
        ...

    def from_units(self, values: Images, level: float) -> Images:
        """The instrument's units as clean values."""
        ...

    def represent(self, measured: Images) -> Images:
        """What networks and classical methods see of a measurement."""
        ...

    def represent_clean(self, clean: Images) -> Images:
        """What they see of an image without noise, in the scale of its own units."""
        ...

    def restore_clean(self, represented: Images) -> Images:
        """The way back of `represent_clean`."""
        ...

    def restore(self, represented: Images) -> Images:
        """A denoised measurement, whose mean noise has shifted in the representation, back in units."""
        ...

    def mix(self, clean: Images, air: Images, generator: np.random.Generator) -> Images:
        """Put the noise of air on clean values, all in the representation."""
        ...

    def of_nothing(self, air: Images) -> Images:
        """What is there in air, in the representation: the target where there is noise alone."""
        ...

    def deviation(self, air: Images) -> float:
        """Standard deviation of the noise where there is something, estimated from air, in the representation."""
        ...

    def unbiased(self, denoised: Images, air: Images) -> Images:
        """Take out what noise adds to the mean of the representation, of which `denoised` is an estimate."""
        ...


class Rician(Noise):
    """Magnitude of a complex value with Gaussian noise in both parts, as in magnetic resonance.

    A level is the deviation of each part, as a share of the brightest tissue. Air has a mean of its own: that of a
    Rayleigh distribution. Noise of air that gets a random phase and is added before the magnitude is taken has exactly
    the distribution of the instrument, and nobody needs to know the level.

    Source:
        Gudbjartsson and Patz, "The Rician distribution of noisy MRI data" (1995).
    """

    name = "Rician"
    levels: tuple[float, ...] = (0.05, 0.1, 0.2)
    unit = "σ"
    biased = True

    def clean(self, image: Images) -> Images:
        """The image."""
        return image

    def measure(self, clean: Images, level: float, generator: np.random.Generator) -> Images:
        """Magnitude with noise."""
        parts = generator.normal(0, level, (2, *clean.shape)).astype(np.float32)
        magnitude: Images = np.hypot(clean + parts[0], parts[1])
        return magnitude

    def in_units(self, clean: Images, level: float) -> Images:
        """The same."""
        return clean

    def from_units(self, values: Images, level: float) -> Images:
        """The same."""
        return values

    def represent(self, measured: Images) -> Images:
        """The magnitude."""
        return measured

    def represent_clean(self, clean: Images) -> Images:
        """The same."""
        return clean

    def restore_clean(self, represented: Images) -> Images:
        """The same."""
        return represented

    def restore(self, represented: Images) -> Images:
        """The same, without what is below 0."""
        return np.clip(represented, 0, None)

    def mix(self, clean: Images, air: Images, generator: np.random.Generator) -> Images:
        """Magnitude of clean values and air of random phase."""
        phase = generator.uniform(0, 2 * np.pi, air.shape).astype(np.float32)
        magnitude: Images = np.hypot(clean + air * np.cos(phase), air * np.sin(phase))
        return magnitude

    def of_nothing(self, air: Images) -> Images:
        """Zero."""
        return np.zeros_like(air)

    def deviation(self, air: Images) -> float:
        """From the mean of a Rayleigh distribution, σ √(π/2)."""
        return float(air.mean() / np.sqrt(np.pi / 2))

    def unbiased(self, denoised: Images, air: Images) -> Images:
        """Find the value of which a Rician magnitude has this mean.

        Source:
            Koay and Basser, "Analytically exact correction scheme for signal extraction from noisy magnitude MR
            signals" (2006), by a table in place of their iteration.
        """
        from scipy.special import ive

        # In units of σ: E|x + n| = √(π/2) e^(-q) [(1 + 2q) I0(q) + 2q I1(q)], q = x²/4.
        sigma = self.deviation(air)
        values = np.linspace(0, max(float(denoised.max()) / sigma, 1.0) + 1, 4000)
        q = values**2 / 4
        means = np.sqrt(np.pi / 2) * ((1 + 2 * q) * ive(0, q) + 2 * q * ive(1, q))
        corrected: Images = (sigma * np.interp(denoised / sigma, means, values)).astype(np.float32)
        return corrected


class Poisson(Noise):
    """Counts of quanta, as in photographs in dim light, X-rays and nuclear medicine.

    A level is the number of counts in the brightest tissue. A tenth of that is counted everywhere, in air as well:
    scattered quanta and dark counts, without which air would teach nothing. The noise of counts grows with them, that
    of their root hardly does, so what air teaches in the root is right for tissue.

    Source:
        Anscombe, "The transformation of Poisson, binomial and negative-binomial data" (1948); the offset 1/8 of the way
        back is his expansion of the mean.
    """

    name = "Poisson"
    levels: tuple[float, ...] = (200.0, 60.0, 20.0)
    unit = "counts"
    biased = False
    _everywhere = 0.1

    def clean(self, image: Images) -> Images:
        """The image and what is counted everywhere, from 0.09 to 1."""
        return (image + np.float32(self._everywhere)) / np.float32(1 + self._everywhere)

    def measure(self, clean: Images, level: float, generator: np.random.Generator) -> Images:
        """Counts."""
        return generator.poisson(self.in_units(clean, level)).astype(np.float32)

    def in_units(self, clean: Images, level: float) -> Images:
        """Mean counts."""
        return clean * np.float32(level)

    def from_units(self, values: Images, level: float) -> Images:
        """Counts as shares of the brightest."""
        return values / np.float32(level)

    def represent(self, measured: Images) -> Images:
        """Root of the counts, after Anscombe."""
        root: Images = np.sqrt(measured + np.float32(3 / 8))
        return root

    def represent_clean(self, clean: Images) -> Images:
        """Root."""
        root: Images = np.sqrt(clean)
        return root

    def restore_clean(self, represented: Images) -> Images:
        """Square."""
        return np.square(represented)

    def restore(self, represented: Images) -> Images:
        """Square of the root, without the 1/8 that its noise adds."""
        return np.clip(np.square(np.clip(represented, 0, None)) - np.float32(1 / 8), 0, None)

    def mix(self, clean: Images, air: Images, generator: np.random.Generator) -> Images:
        """Clean values and the deviations of air from its mean."""
        mixed: Images = clean + air - air.mean(axis=(-2, -1), keepdims=True)
        return mixed

    def of_nothing(self, air: Images) -> Images:
        """The mean of air: what is counted everywhere."""
        return np.broadcast_to(air.mean(axis=(-2, -1), keepdims=True), air.shape)

    def deviation(self, air: Images) -> float:
        """That of air."""
        return float(air.std())

    def unbiased(self, denoised: Images, air: Images) -> Images:
        """The same: `restore` does it."""
        return denoised


NOISES: tuple[Noise, ...] = (Rician(), Poisson())
"""Those of the experiment."""

_WINDOW = 9  # pixels; noise of a mean over it is a ninth
_DARK = 0.2


def local_mean(image: Images) -> Images:
    """Mean over a window of 9 x 9 pixels."""
    from scipy.ndimage import uniform_filter

    smoothed: Images = uniform_filter(image, size=(_WINDOW, _WINDOW), mode="nearest", axes=(-2, -1))
    return smoothed


def level_of(represented: Images) -> float:
    """The scale of an image, in which networks see it: its brightest local mean.

    Args:
        represented: `(rows, columns)`.

    Returns:
        Above 0 for an image that is not 0 everywhere.
    """
    return float(local_mean(represented).max())


def find_air(represented: Images) -> NDArray[np.bool_]:
    """Where an image is air: dark in the local mean, and so are its neighbours. No label is needed.

    Args:
        represented: Noisy, `(rows, columns)`.

    Returns:
        True in air.
    """
    from scipy.ndimage import binary_erosion

    smoothed = local_mean(represented)
    darkest, brightest = smoothed.min(), smoothed.max()
    dark = smoothed < darkest + _DARK * (brightest - darkest)
    found: NDArray[np.bool_] = binary_erosion(dark, iterations=_WINDOW // 2, border_value=1)
    return found


def air_blocks(represented: Images, side: int) -> Images:
    """Square blocks of an image that lie in air.

    Args:
        represented: Noisy, `(rows, columns)`.
        side: Rows and columns of a block.

    Returns:
        `(blocks, side, side)`; they overlap by half.

    Raises:
        DataError: There is not even one.
    """
    air = find_air(represented)
    step = side // 2
    rows, columns = represented.shape
    blocks = [
        represented[row : row + side, column : column + side]
        for row in range(0, rows - side + 1, step)
        for column in range(0, columns - side + 1, step)
        if air[row : row + side, column : column + side].all()
    ]
    if not blocks:
        raise DataError(
            f"found no {side} x {side} pixels of air in an image of {rows} x {columns}, expected some to learn noise "
            "from: give images with more around what they show"
        )
    return np.stack(blocks)
