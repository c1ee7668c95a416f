"""Classical methods, with the strengths that do best on development slices."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from images.noise import Noise
from images.packages import require_packages
from images.slices import Images

Method = Callable[[Images, float, float], Images]
"""From an image in the representation, the deviation of its noise and a strength to an image."""

STRENGTHS: Mapping[str, Sequence[float]] = {
    "total variation": (0.4, 0.7, 1.0, 1.5, 2.0, 2.8, 4.0),
    "non-local means": (0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.2),
    "wavelets": (0.4, 0.6, 0.8, 1.0, 1.2, 1.5),
}
"""Multiples of the noise's deviation, by method."""


@dataclass(frozen=True)
class Choice:
    """What development slices have chosen for a classical method.

    Attributes:
        strength: Multiple of the deviation of the noise.
        unbiased: Whether the mean that noise adds is taken out afterwards.
    """

    strength: float
    unbiased: bool


def denoise(method: str, represented: Images, air: Images, noise: Noise, choice: Choice) -> Images:
    """Denoise a slice in a classical way.

    Args:
        method: One of `STRENGTHS`.
        represented: Noisy, `(rows, columns)`.
        air: Blocks of it without anything, which tell the deviation of the noise.
        noise: The instrument.
        choice: Strength, and whether bias is removed.

    Returns:
        In the representation, `(rows, columns)`.

    Raises:
        MissingExtraError: scikit-image or PyWavelets is not installed.
    """
    require_packages("A classical method", "skimage", "pywt")
    denoised = _METHODS[method](represented, noise.deviation(air), choice.strength)
    return noise.unbiased(denoised, air) if choice.unbiased else denoised


def _total_variation(image: Images, deviation: float, strength: float) -> Images:
    """Rudin, Osher and Fatemi (1992), by Chambolle (2004)."""
    from skimage.restoration import denoise_tv_chambolle

    denoised: Images = denoise_tv_chambolle(image, weight=strength * deviation)
    return denoised


def _non_local_means(image: Images, deviation: float, strength: float) -> Images:
    """Buades, Coll and Morel (2005), with the noise taken from the distances of patches."""
    from skimage.restoration import denoise_nl_means

    denoised: Images = denoise_nl_means(
        image, patch_size=5, patch_distance=9, h=strength * deviation, sigma=deviation, fast_mode=True
    )
    return denoised


def _wavelets(image: Images, deviation: float, strength: float) -> Images:
    """Chang, Yu and Vetterli (2000), averaged over shifts as Coifman and Donoho (1995) do."""
    from skimage.restoration import cycle_spin, denoise_wavelet

    settings = {"sigma": strength * deviation, "rescale_sigma": False}
    denoised: Images = cycle_spin(image, denoise_wavelet, max_shifts=3, func_kw=settings)
    return denoised


_METHODS: Mapping[str, Method] = {
    "total variation": _total_variation,
    "non-local means": _non_local_means,
    "wavelets": _wavelets,
}
