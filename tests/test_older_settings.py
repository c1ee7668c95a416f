"""What older versions wrote is read as what it meant then, or refused in one sentence."""

import copy
import json

import pytest
import yaml
from safetensors.torch import load_file, save_file

from sottovoce.config import find_settings, parse_settings
from sottovoce.errors import ConfigError, ModelError
from sottovoce.models.checkpoint import load_checkpoint, save_checkpoint

from .systems import build, changed, small_settings

# All that was removed, as every checkpoint of that time holds it.
OFF = {
    "joint_weights": {"pseudo_loudness": 0.0, "remixed": 0.0, "alignment": 0.0, "adversarial": 0.0},
    "training": {
        "late_share": 0.3,
        "teacher_decay": 0.998,
        "optimiser": {"weight_average": 0.0},
        "data": {"pairs": False, "vary_pairs": False},
    },
    "baseline": None,
}


@pytest.fixture
def default():
    return yaml.safe_load(find_settings("default").read_text(encoding="utf-8"))


def test_removed_keys_that_were_off_change_nothing(default):
    older = changed(default, OFF)
    before = copy.deepcopy(older)
    assert parse_settings(older, "old.yaml") == parse_settings(default, "new.yaml")
    assert older == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"joint_weights": {"pseudo_loudness": 0.1}}, ["joint_weights.pseudo_loudness", "0.1", "loudness loss"]),
        ({"joint_weights": {"remixed": 0.5}}, ["joint_weights.remixed", "0.5", "self-training"]),
        ({"joint_weights": {"alignment": 0.05}}, ["joint_weights.alignment", "0.05"]),
        ({"joint_weights": {"adversarial": "much"}}, ["joint_weights.adversarial", "'much'"]),
        ({"training": {"optimiser": {"weight_average": 0.995}}}, ["training.optimiser.weight_average", "0.995"]),
    ],
)
def test_removed_keys_that_were_in_use_are_refused(default, change, words):
    with pytest.raises(ConfigError) as caught:
        parse_settings(changed(default, change), "old.yaml")
    message = str(caught.value)
    assert message.startswith("old.yaml: ")
    assert "\n" not in message
    for word in [*words, "removed", "c8d5ff2"]:
        assert word in message


@pytest.mark.parametrize("change", [{"baseline": {"kind": "pvq"}}, {"training": {"data": {"pairs": True}}}])
def test_what_the_experiment_alone_does_is_refused(default, change):
    with pytest.raises(ConfigError, match=r"^old\.yaml: (baseline|training\.data\.pairs): .*sspd2023 alone"):
        parse_settings(changed(default, change), "old.yaml")


@pytest.mark.parametrize("training", [None, 3, [], {"optimiser": None}])
def test_settings_of_another_shape_are_refused_as_before(default, training):
    with pytest.raises(ConfigError, match=r"^old\.yaml: training"):
        parse_settings(default | {"training": training}, "old.yaml")


def rewritten(path, change):
    """Give a checkpoint the settings that an older version would have stored in it."""
    from safetensors import safe_open

    with safe_open(path, "pt") as content:
        settings = json.loads(content.metadata()["sottovoce"])
    save_file(load_file(path), path, metadata={"sottovoce": json.dumps(changed(settings, change))})


def test_an_older_checkpoint_loads(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, build(small_settings()), small_settings())
    rewritten(path, OFF)
    assert load_checkpoint(path)[1] == small_settings()


def test_an_older_checkpoint_of_a_removed_loss_is_refused(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, build(small_settings()), small_settings())
    rewritten(path, {"joint_weights": {"adversarial": 0.02}})
    with pytest.raises(ModelError, match=r"adversarial loss was removed.*use the version that wrote it") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)
