"""One place says how to enhance, and what of it can be."""

import dataclasses
from typing import get_type_hints

import pytest

from sottovoce.engine.options import EnhanceKeywords, EnhanceOptions
from sottovoce.errors import ConfigError


@pytest.mark.parametrize(
    "wrong", [{"mix": 1.5}, {"mix": -0.1}, {"mix": float("nan")}, {"limit_db": -3.0}, {"limit_db": float("nan")}]
)
def test_refuses_numbers_out_of_range(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ConfigError, match=f"found {name} {value}, expected"):
        EnhanceOptions(**wrong)


@pytest.mark.parametrize("right", [{}, {"mix": 0.0}, {"mix": 1.0}, {"limit_db": 0.0}, {"limit_db": float("inf")}])
def test_takes_the_ends_of_the_ranges(right):
    EnhanceOptions(**right)


def test_keywords_are_the_fields():
    assert get_type_hints(EnhanceKeywords) == get_type_hints(EnhanceOptions)
    with pytest.raises(dataclasses.FrozenInstanceError):
        EnhanceOptions().mix = 0.5
