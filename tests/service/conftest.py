"""A service that the tests of this folder share."""

import numpy as np
import pytest

pytest.importorskip("fastapi")

from ..conftest import build_identity_model
from ..signal.audio.files import save
from .calls import serving


@pytest.fixture(scope="session")
def models(identity_model, tmp_path_factory):
    """A model that changes nothing, and one that gives no sound."""
    exploding = build_identity_model(tmp_path_factory.mktemp("models") / "exploding.onnx", gain=3e38)
    return f"identity={identity_model}", f"exploding={exploding}"


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Where the shared service keeps uploads."""
    return tmp_path_factory.mktemp("service") / "state"


@pytest.fixture(scope="session")
def service(models, folder):
    with serving(models=models, folder=folder, workers=1, queue=8, max_minutes=0.05, max_megabytes=2) as service:
        yield service


@pytest.fixture(scope="session")
def recording(tmp_path_factory):
    """A second of noise that is no other file's."""
    rng = np.random.default_rng(0)
    return save(tmp_path_factory.mktemp("recording") / "a.wav", 0.1 * rng.standard_normal((1, 16_000)))
