"""Scores that others have published, to stand beside ours.

Source:
    Li, Sun, Wang and Naqvi, "Joint learning with shared latent space for self-supervised monaural speech enhancement"
    (SSPD 2023), table of the poster.
"""

POSTER_SNRS_DB = (-5.0, 0.0, 5.0)
"""Signal-to-noise ratios of the columns."""

POSTER: dict[str, dict[str, tuple[float, float, float]]] = {
    "sse": {
        "pesq": (1.32, 1.33, 1.34),
        "csig": (1.97, 2.04, 2.09),
        "cbak": (1.74, 1.76, 1.77),
        "covl": (1.59, 1.65, 1.68),
    },
    "pvq": {
        "pesq": (1.68, 1.70, 1.71),
        "csig": (2.24, 2.27, 2.29),
        "cbak": (1.76, 1.79, 1.80),
        "covl": (1.72, 1.77, 1.81),
    },
    "cf": {
        "pesq": (1.71, 1.74, 1.77),
        "csig": (2.29, 2.30, 2.35),
        "cbak": (1.80, 1.80, 1.96),
        "covl": (1.76, 1.80, 1.86),
    },
    "joint": {
        "pesq": (1.84, 1.89, 1.91),
        "csig": (2.45, 2.47, 2.49),
        "cbak": (1.94, 1.94, 2.23),
        "covl": (1.89, 1.96, 2.03),
    },
}
"""Scores by system and measure, one per ratio. Which PESQ is meant is not stated; its range suggests the narrowband raw
score."""
