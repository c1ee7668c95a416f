"""What may be searched, and what is refused with a sentence."""

import pytest

from sottovoce.config import changed
from sottovoce.errors import ConfigError
from sottovoce.search.space import read_space

from ..training.conftest import tiny

WIDTH = "model.mixture_encoder.width: {low: 2, high: 8, step: 2, also: [model.mask.width]}"


@pytest.fixture
def read(tmp_path):
    def read(text, settings=None):
        path = tmp_path / "space.yaml"
        path.write_text(text)
        return read_space(path, settings or tiny())

    return read


def test_values_go_to_optuna_and_come_back(read):
    pytest.importorskip("optuna")
    space = read(
        "joint_weights.cycle: {low: 1, high: 100, log: true}\n"
        "joint_weights.consistency: {choices: [0.0, 0.1]}\n"
        "model.speech_encoder.widths: {choices: [[16], [32, 16]]}\n" + WIDTH
    )
    assert space.given == {
        "joint_weights.cycle": 10.0,
        "joint_weights.consistency": 0.0,
        "model.speech_encoder.widths": [16],
        "model.mixture_encoder.width": 4,
    }
    for key, distribution in space.distributions().items():
        value = space.to_optuna(space.given)[key]
        assert distribution._contains(distribution.to_internal_repr(value))
        assert space.from_optuna(key, value) == space.given[key]
    assert space.from_optuna("joint_weights.cycle", 12.3456) == 12.3


def test_the_settings_as_they_are_come_back_as_they_are(read):
    optuna = pytest.importorskip("optuna")
    key, other = "joint_weights.cycle", "joint_weights.consistency"
    settings = changed(tiny(), {"joint_weights": {"cycle": 1.23456}}, "a test")
    space = read(f"{key}: {{low: 1, high: 2}}\n{other}: {{choices: [0, 1]}}", settings)  # the settings have 0.0
    study = optuna.create_study()
    study.enqueue_trial(space.to_optuna(space.given))
    trial = study.ask(space.distributions())
    assert {name: space.from_optuna(name, value) for name, value in trial.params.items()} == {key: 1.23456, other: 0}


def test_values_of_a_range_in_steps_are_the_steps(read):
    space = read("joint_weights.cycle: {low: 9, high: 11, step: 0.0625}")
    assert space.from_optuna("joint_weights.cycle", 9.0625) == 9.0625


def test_a_change_reaches_every_setting_that_goes_along(read):
    settings = changed(tiny(), read(WIDTH).change({"model.mixture_encoder.width": 8}), "a test")
    assert settings.model.mixture_encoder.width == settings.model.mask.width == 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "found no settings"),
        ("joint_weights.cycle: 3", "expected a range or choices"),
        ("joint_weights.cycles: {low: 1, high: 2}", "is no setting"),
        ("joint_weights: {low: 1, high: 2}", "expected a setting of"),
        ("model.mask: {low: 1, high: 2}", "is a group of settings"),
        ("training.joint_steps: {low: 1, high: 2}", "expected a setting of"),
        ("training.seed: {choices: [1, 2]}", "expected a setting of"),
        ("joint_weights.cycle: {low: 20, high: 10}", "from low to high"),
        ("joint_weights.cycle: {low: 20, high: 30}", "without 10, the value of the settings"),
        ("joint_weights.cycle: {low: 0, high: 10, log: true}", "begins above 0"),
        ("joint_weights.cycle: {low: 1, high: 10, choices: [1, 10]}", "choices and a range"),
        ("joint_weights.cycle: {low: 1}", "both ends"),
        ("joint_weights.cycle: {choices: [1.0, 3.0]}", "choices without 10.0"),
        ("joint_weights.cycle: {low: -10, high: 10}", "greater than or equal to 0"),
        ("joint_weights.cycle: {low: 1, high: 100, logarithmic: true}", "unknown key"),
        ("model.mixture_encoder.width: {low: 2, high: 8}", "mask.width is that of mixture_encoder"),
        ("model.mixture_encoder.width: {low: 2.5, high: 8}", "whole numbers"),
        ("model.mixture_encoder.width: {low: 3, high: 9, step: 2, also: [model.mask.width]}", "without 4"),
        ("joint_weights.cycle: {low: 9, high: 11, step: 0.3}", "whole steps"),
        ("model.phase_features: {low: 1, high: 2}", "give choices"),
        ("joint_weights.cycle: {low: 1, high: 100, also: [joint_weights.silence]}", "with an equal value"),
        (WIDTH + "\nmodel.mask.width: {choices: [2, 4]}", "twice"),
        ("joint_weights.cycle: [1, 2]", "expected a range or choices"),
        ("joint_weights.cycle: {low: low, high: 2}", "valid number"),
    ],
)
def test_what_is_refused(read, text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        read(text)
    assert "space.yaml" in str(caught.value)
