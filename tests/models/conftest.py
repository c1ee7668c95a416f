"""Networks of these tests have the same values every time."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _same_values_every_time():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
