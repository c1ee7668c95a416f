"""Packages that this experiment alone needs, looked for before work begins."""

from sottovoce.errors import MissingExtraError
from sottovoce.extras import is_installed

_NAMES = {"nilearn": "nilearn", "skimage": "scikit-image", "pywt": "PyWavelets"}


def require_packages(purpose: str, *modules: str) -> None:
    """See to it that packages are installed.

    Args:
        purpose: What needs them: the beginning of a sentence.
        *modules: Modules that are needed.

    Raises:
        MissingExtraError: One of them is not installed.
    """
    missing = [_NAMES[module] for module in modules if not is_installed(module)]
    if missing:
        raise MissingExtraError(
            f"{purpose} needs {' and '.join(missing)}, not installed here: run `pip install "
            "'./experiments/images[data]'` in a copy of the repository"
        )
