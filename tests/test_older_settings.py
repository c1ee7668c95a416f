"""What older versions wrote is read as what it meant then, or refused in one sentence."""

import copy
import json

import pytest
import yaml
from safetensors.torch import load_file, save_file

from sottovoce.config import find_settings, load_settings, parse_settings
from sottovoce.errors import ConfigError, ModelError
from sottovoce.models.checkpoint import load_checkpoint, save_checkpoint

from .systems import build, changed, small_settings

# All that was removed, as every checkpoint of that time holds it.
OFF = {
    "model": {
        "causal": True,
        "normalisation": "channel",
        "activation": "prelu",
        "equalise": False,
        "equalise_horizon_seconds": 1.0,
        "phase": "residual",
        "shared_layer": True,
        "speech_encoder": {"kind": "convolution"},
        "mixture_encoder": {"kind": "bands"},
        "speech_decoder": {"kind": "convolution"},
        "mixture_decoder": {"kind": "convolution"},
        "mask": {"kind": "bands"},
    },
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


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": {"causal": False}}, ["model.causal", "False", "sees the future"]),
        ({"model": {"normalisation": "batch"}}, ["model.normalisation", "'batch'"]),
        ({"model": {"activation": "softplus"}}, ["model.activation", "'softplus'"]),
        ({"model": {"equalise": True}}, ["model.equalise", "True", "running-mean normalisation"]),
        ({"model": {"phase": "absolute"}}, ["model.phase", "'absolute'"]),
        ({"model": {"shared_layer": False}}, ["model.shared_layer", "False"]),
        ({"model": {"mixture_encoder": {"kind": "temporal"}}}, ["model.mixture_encoder.kind", "'temporal'"]),
        ({"model": {"mask": {"kind": "temporal"}}}, ["model.mask.kind", "'temporal'"]),
        ({"model": {"mask": None}}, ["model.mask", "None"]),
        ({"model": {"noise_code": 0}}, ["model.noise_code", "found 0"]),
        ({"frontend": {"phase_features": "unit"}}, ["model.phase_features", "'unit'"]),
        ({"frontend": {"windows": [1024, 512]}}, ["frontend.windows", "[1024, 512]", "several windows"]),
    ],
)
def test_what_the_published_networks_alone_have_is_refused(default, change, words):
    with pytest.raises(ConfigError) as caught:
        parse_settings(changed(default, change), "old.yaml")
    message = str(caught.value)
    assert message.startswith("old.yaml: ")
    assert "\n" not in message
    for word in [*words, "sspd2023", "a0f5f57"]:
        assert word in message


def test_renamed_keys_are_read(default):
    older = copy.deepcopy(default)
    older["frontend"]["windows"] = [older["frontend"].pop("window")]
    older["frontend"]["phase_features"] = older["model"].pop("phase_features")
    assert parse_settings(older, "old.yaml") == parse_settings(default, "new.yaml")


def test_a_renamed_key_changes_its_base(tmp_path):
    """Older settings of a user, which are based on those of this version."""
    path = tmp_path / "mine.yaml"
    path.write_text(
        "base: default\nname: mine\nfrontend: {windows: [768], phase_features: compressed}\n"
        "model: {mixture_encoder: {kind: bands, width: 8}, mask: {kind: bands, width: 8}}",
        encoding="utf-8",
    )
    mine, base = load_settings(path), load_settings(find_settings("default"))
    assert (mine.frontend.window, mine.model.phase_features) == (768, "compressed")
    assert mine.model.mixture_encoder == base.model.mixture_encoder.model_copy(update={"width": 8})


@pytest.mark.parametrize("windows", [[], [[512]], "wide", None])
def test_windows_that_never_were_any_are_refused(default, windows):
    with pytest.raises(ConfigError, match=r"^old\.yaml: frontend\.window"):
        parse_settings(changed(default, {"frontend": {"windows": windows}}), "old.yaml")


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
