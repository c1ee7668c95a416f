"""What older versions wrote is read as what it meant then, or refused in one sentence."""

import copy
import json

import pytest
import yaml
from safetensors.torch import load_file, save_file

from sottovoce.config import find_settings, load_settings, parse_settings
from sottovoce.engine.model_file import read_metadata
from sottovoce.errors import ConfigError, ModelError
from sottovoce.models.checkpoint import load_checkpoint, save_checkpoint
from sottovoce.weights import CHECKPOINTS, MODELS

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

# How simulated mixtures were set before they had a section of their own, and what that means in it.
FLAT = {
    "pseudo_clips": 3,
    "pseudo_snr_db": [-3.0, 12.0],
    "pseudo_room_share": 0.11,
    "pseudo_rooms": 7,
    "pseudo_t60_seconds": [0.2, 0.8],
    "pseudo_early_ms": 40.0,
    "pseudo_target_t60_seconds": 0.3,
    "pseudo_attenuation_db": 25.0,
    "pseudo_colour": 0.25,
    "pseudo_speed": [0.9, 1.1],
    "pseudo_noise_speed": [0.7, 1.3],
    "pseudo_noise_reversed_share": 0.12,
    "pseudo_noise_swelling_share": 0.13,
    "pseudo_second_noise_share": 0.14,
    "pseudo_babble_share": 0.15,
    "pseudo_synthetic_share": 0.16,
    "pseudo_pause_share": 0.17,
    "pseudo_pause_seconds": [0.3, 5.0],
    "pseudo_quiet_share": 0.18,
    "pseudo_held_vowel_share": 0.19,
    "pseudo_band_limited_share": 0.21,
}
BY_SUBJECT = {
    "simulated_clips": 3,
    "simulation": {
        "snr_db": [-3.0, 12.0],
        "quiet_share": 0.18,
        "attenuation_db": 25.0,
        "random_filter": 0.25,
        "band_limited_share": 0.21,
        "speech": {"speed": [0.9, 1.1], "held_vowel_share": 0.19, "pause_share": 0.17},
        "room": {
            "share": 0.11,
            "count": 7,
            "t60_seconds": [0.2, 0.8],
            "early_ms": 40.0,
            "target_t60_seconds": 0.3,
        },
        "noise": {
            "speed": [0.7, 1.3],
            "reversed_share": 0.12,
            "swelling_share": 0.13,
            "babble_share": 0.15,
            "synthetic_share": 0.16,
            "second_share": 0.14,
        },
    },
}
WEIGHTS = (
    "latent",
    "amplitude",
    "magnitude",
    "complex",
    "multi_resolution",
    "snr",
    "ratio_mask",
    "dereverberation_mask",
)


def with_data(settings, data, weights):
    """The settings with such data and such weights of simulated mixtures, and no others."""
    kept = {key: value for key, value in settings["joint_weights"].items() if not key.startswith("simulated_")}
    training = settings["training"] | {"data": data}
    model = settings["model"] | {"mask_pretask": True}
    return settings | {"model": model, "training": training, "joint_weights": kept | weights}


def old_and_new(settings):
    """The same settings by their old names and by those of this version."""
    numbered = {name: 0.1 * number for number, name in enumerate(WEIGHTS, 1)}
    old, new = ({f"{prefix}_{name}": value for name, value in numbered.items()} for prefix in ("pseudo", "simulated"))
    return with_data(settings, FLAT, old), with_data(settings, BY_SUBJECT, new)


@pytest.fixture(scope="module")
def default_content():
    return yaml.safe_load(find_settings("default").read_text(encoding="utf-8"))


@pytest.fixture
def default(default_content):
    return copy.deepcopy(default_content)


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
    if "phase_features" in change.get("frontend", {}):  # an older name, in whose place the new one is not there
        del default["model"]["phase_features"]
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
    del default["frontend"]["window"]
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


def test_simulated_mixtures_are_read_by_their_old_names(default):
    old, new = old_and_new(default)
    before = copy.deepcopy(old)
    settings = parse_settings(old, "old.yaml")
    assert settings == parse_settings(new, "new.yaml")
    assert old == before
    # What old names do not say is as it is by default, which is off.
    dumped = settings.model_dump(mode="json", exclude_defaults=True)
    assert {key: dumped["training"]["data"][key] for key in BY_SUBJECT} == BY_SUBJECT


def test_a_checkpoint_with_old_names_loads(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, build(small_settings()), small_settings())
    old, new = old_and_new(small_settings().model_dump(mode="json"))
    save_file(load_file(path), path, metadata={"sottovoce": json.dumps(old)})
    assert load_checkpoint(path)[1] == parse_settings(new, "new.yaml")


@pytest.mark.parametrize("path", CHECKPOINTS.values(), ids=lambda path: path.stem)
def test_the_checkpoints_of_bundled_models_load(path):
    simulation = load_checkpoint(path)[1].training.data.simulation
    assert simulation.attenuation_db == 28.0
    assert simulation.noise.speed == (0.6, 2.0)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_the_settings_in_an_exported_model_are_those_of_its_checkpoint(name):
    written = dict(read_metadata(MODELS[name]).settings)
    assert parse_settings(written, "info --settings") == load_checkpoint(CHECKPOINTS[name])[1]


def test_old_names_change_settings_with_new_ones_and_the_other_way_round(tmp_path):
    (tmp_path / "old.yaml").write_text(
        "base: default\nname: old\ntraining: {data: {pseudo_snr_db: [1, 2], pseudo_rooms: 3}}", encoding="utf-8"
    )
    room = "simulation: {room: {count: 4}}"
    (tmp_path / "new.yaml").write_text(f"base: old.yaml\nname: new\ntraining: {{data: {{{room}}}}}", encoding="utf-8")
    default = load_settings(find_settings("default")).training.data.simulation
    old, new = (load_settings(tmp_path / f"{name}.yaml").training.data.simulation for name in ("old", "new"))
    assert (old.snr_db, old.room.count, old.noise) == ((1.0, 2.0), 3, default.noise)
    assert (new.snr_db, new.room.count, new.noise) == ((1.0, 2.0), 4, default.noise)


def test_a_value_under_both_names_is_refused(default):
    both = changed(default, {"training": {"data": {"pseudo_snr_db": [0, 5]}}})
    with pytest.raises(ConfigError, match=r"^old\.yaml: found .*pseudo_snr_db and .*simulation\.snr_db.*leave out"):
        parse_settings(both, "old.yaml")


def test_another_range_of_pauses_is_refused(default):
    with pytest.raises(ConfigError, match=r"pseudo_pause_seconds: found \[1, 9\].*0\.3 to 5 s"):
        parse_settings(changed(default, {"training": {"data": {"pseudo_pause_seconds": [1, 9]}}}), "old.yaml")


@pytest.mark.parametrize("data", [None, 3, {"simulation": 3, "pseudo_rooms": 2}])
def test_data_of_another_shape_are_refused_as_such(default, data):
    with pytest.raises(ConfigError, match=r"^old\.yaml: training\.data"):
        parse_settings(changed(default, {"training": {"data": data}}), "old.yaml")
