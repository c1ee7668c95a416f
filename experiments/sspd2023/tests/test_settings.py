"""Settings of all rows load, change something, and name what does not go together."""

import pytest
import yaml

from sottovoce.config import dump_settings, parse_settings_as
from sottovoce.errors import ConfigError
from sspd2023.settings import CONF, ExperimentSettings, load_row
from sspd2023.systems import SYSTEMS

from .systems import row_settings

FILES = {path.relative_to(CONF).with_suffix("").as_posix(): path for path in sorted(CONF.rglob("*.yaml"))}


@pytest.mark.parametrize("name", FILES)
def test_settings_load(name):
    settings = row_settings(name)
    assert settings.name == name.rpartition("/")[2]
    assert parse_settings_as(ExperimentSettings, yaml.safe_load(dump_settings(settings)), "dump") == settings


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("ablations/")])
def test_an_ablation_changes_something(name):
    base = yaml.safe_load(FILES[name].read_text(encoding="utf-8"))["base"]
    if not base.endswith(".yaml"):  # the product's
        return
    base = row_settings((FILES[name].parent / base).resolve().relative_to(CONF.resolve()).with_suffix("").as_posix())
    assert row_settings(name).model_dump(exclude={"name"}) != base.model_dump(exclude={"name"})


def test_every_row_has_its_settings():
    assert {entry.settings for entry in SYSTEMS.values() if entry.settings} <= FILES.keys()


def refusal(change):
    content = row_settings("baselines/irm").model_dump(mode="json") | change
    with pytest.raises(ConfigError) as caught:
        parse_settings_as(ExperimentSettings, content, "mine.yaml")
    return str(caught.value)


def test_masking_networks_learn_from_pairs_alone():
    assert "learns from pairs alone" in refusal({"pairs": None})
    assert "pairs" in refusal({"pairs": "always"})


def test_there_is_one_kind_of_networks():
    model = row_settings("ablations/default_supervised").model_dump(mode="json")["model"]
    assert "expected one" in refusal({"model": model})
    assert "expected one" in refusal({"poster": None})
    assert "made from the poster's" in refusal({"poster": None, "model": model})


@pytest.mark.parametrize("windows", [[1024], [2048, 512], [512, 512], [256, 512], [511]])
def test_shorter_windows_fall_from_the_longest(windows):
    poster = row_settings("poster").model_dump(mode="json")["poster"]
    assert "poster.shorter_windows are even and fall" in refusal({"poster": poster | {"shorter_windows": windows}})


def test_unknown_settings_are_named():
    with pytest.raises(ConfigError, match=r"'baselines/ire', expected one of .*baselines/irm"):
        load_row("baselines/ire")
