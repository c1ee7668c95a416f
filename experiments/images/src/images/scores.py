"""How near an image is to the truth: PSNR and SSIM of what is shown, not of the air around it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from images.packages import require_packages
from images.slices import Images


@dataclass(frozen=True)
class Scores:
    """Measures of an image; NaN is "undefined".

    Attributes:
        psnr_db: Peak signal-to-noise ratio over tissue, peak 1.
        ssim: Structural similarity over tissue, windows of 7 x 7, range 1.
        whole_psnr_db: Peak signal-to-noise ratio over the whole image.
    """

    psnr_db: float
    ssim: float
    whole_psnr_db: float


UNDEFINED = Scores(float("nan"), float("nan"), float("nan"))


def score(estimate: Images, truth: Images, tissue: NDArray[np.bool_]) -> Scores:
    """Compare an image with the truth.

    Args:
        estimate: `(rows, columns)`.
        truth: `(rows, columns)`, from 0 to 1.
        tissue: Where something is shown.

    Returns:
        The measures; all undefined where the estimate is not finite.

    Raises:
        MissingExtraError: scikit-image is not installed.

    Source:
        Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to structural similarity"
        (2004).
    """
    if not np.isfinite(estimate).all():
        return UNDEFINED
    require_packages("Structural similarity", "skimage")
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    estimate = np.clip(estimate, 0, 1)
    _, similarity = structural_similarity(truth, estimate, data_range=1, full=True)
    return Scores(
        float(peak_signal_noise_ratio(truth[tissue], estimate[tissue], data_range=1)),
        float(similarity[tissue].mean()),
        float(peak_signal_noise_ratio(truth, estimate, data_range=1)),
    )
