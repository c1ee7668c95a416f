"""Small settings of compared systems."""

from tests.systems import changed, small_settings

from sottovoce.config import parse_settings_as
from sspd2023.settings import ExperimentSettings


def small_experiment(**change):
    """Return settings of the published system's structure, but a thousandth of its size."""
    content = small_settings("poster").model_dump(mode="json")
    return parse_settings_as(ExperimentSettings, changed(content, change), "tests")
