"""Networks of these tests have the same values every time, and graphs are traced once."""

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _traced_once(traced_once):
    pass


@pytest.fixture(autouse=True)
def _same_values_every_time():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
