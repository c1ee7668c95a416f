"""Networks of these tests have the same values every time, and graphs are traced once."""

import pytest
import torch

from ..systems import traced_once


@pytest.fixture(scope="session", autouse=True)
def _traced_once(tmp_path_factory):
    with traced_once(tmp_path_factory):
        yield


@pytest.fixture(autouse=True)
def _same_values_every_time():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
