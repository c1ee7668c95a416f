"""Fixtures of the integrations."""

import pytest

import sottovoce


@pytest.fixture(scope="session")
def enhancer():
    """The model that integrations take by default."""
    return sottovoce.load("live")
