"""Settings: what comes with sottovoce loads, and a mistake is named by its key and value."""

import copy
from typing import get_args

import pytest
import yaml
from pydantic import ValidationError

from sottovoce.config import (
    JointWeights,
    ModelSettings,
    SystemSettings,
    dump_settings,
    find_settings,
    load_settings,
    parse_settings,
)
from sottovoce.errors import ConfigError

from .systems import changed

CONF = find_settings("default").parent
FILES = sorted(CONF.rglob("*.yaml"))


@pytest.fixture(scope="module")
def default_content():
    return yaml.safe_load((CONF / "default.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def default(default_content):
    return copy.deepcopy(default_content)


def refusal(content):
    """Return the message with which settings are refused: one line that says where they come from."""
    with pytest.raises(ConfigError) as caught:
        parse_settings(content, "mine.yaml")
    message = str(caught.value)
    assert message.startswith("mine.yaml: ")
    assert "\n" not in message
    return message


def simulation(change):
    """Return a change of how simulated mixtures are made, as a change of all settings."""
    return {"training": {"data": {"simulation": change}}}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(CONF).as_posix())
def test_settings_that_come_with_sottovoce_load(path):
    settings = load_settings(path)
    assert settings.name == path.stem
    # They can also be named, and come back from what is written into a run's folder.
    assert find_settings(path.relative_to(CONF).with_suffix("").as_posix()) == path
    assert parse_settings(yaml.safe_load(dump_settings(settings)), "dump") == settings


@pytest.mark.parametrize("path", sorted((CONF / "ablations").glob("*.yaml")), ids=lambda path: path.stem)
def test_an_ablation_changes_something(path):
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    base = load_settings(find_settings(content["base"]))
    assert load_settings(path).model_dump(exclude={"name"}) != base.model_dump(exclude={"name"})


def test_the_product_makes_every_choice_that_its_networks_offer():
    """What only an ablation or the published system would choose is no setting of the product."""
    models = [load_settings(CONF / f"{name}.yaml").model for name in ("default", "live", "example")]
    for name, field in ModelSettings.model_fields.items():
        offered = {True, False} if field.annotation is bool else set(get_args(field.annotation))
        if name != "mask_pretask":  # the paper's future work
            assert {getattr(model, name) for model in models} >= offered, name


def test_values_that_are_left_out_have_defaults(tmp_path):
    model = {part: {"widths": [8]} for part in ("speech_encoder", "speech_decoder", "mixture_decoder")}
    model |= {"mixture_encoder": {}, "mask": {}}
    learned = {"joint_weights": {"simulated_complex": 1.0}, "training": {"data": {"simulated_clips": 1}}}
    settings = parse_settings({"name": "least", "model": model} | learned, "mine.yaml")
    assert settings.frontend.window == 512
    path = tmp_path / "dump.yaml"
    path.write_text(dump_settings(settings), encoding="utf-8")
    assert load_settings(path) == settings


def test_settings_are_frozen(default):
    settings = parse_settings(default, "mine.yaml")
    with pytest.raises(ValidationError, match="frozen"):
        settings.name = "other"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"nome": "x"}, ["nome: unknown key", "'x'"]),
        ({"frontend": {"hops": 256}}, ["frontend.hops: unknown key", "256"]),
        ({"model": {"mask": {"witdh": 3}}}, ["model.mask.witdh: unknown key", "3"]),
        ({"training": {"data": {"clip_second": 2}}}, ["training.data.clip_second: unknown key", "2"]),
        # Wrong units.
        ({"frontend": {"hop": 0.016}}, ["frontend.hop", "length in samples", "0.016", "256"]),
        ({"frontend": {"hop": "16ms"}}, ["frontend.hop", "samples without a unit", "'16ms'"]),
        ({"frontend": {"hop": 256.5}}, ["frontend.hop", "length in samples", "256.5"]),
        ({"frontend": {"window": 0.032}}, ["frontend.window", "length in samples", "0.032"]),
        ({"frontend": {"sample_rate": 16}}, ["frontend.sample_rate", "8000", "found 16"]),
        # Wrong types.
        ({"model": {"mask_pretask": "maybe"}}, ["model.mask_pretask", "'maybe'"]),
        ({"model": {"latent": "wide"}}, ["model.latent", "'wide'"]),
        ({"model": {"phase_features": "guessed"}}, ["model.phase_features", "'guessed'", "'differences'"]),
        ({"model": {"mixture_encoder": 3}}, ["model.mixture_encoder", "found 3"]),
        (simulation({"snr_db": [1, 2, 3]}), ["training.data.simulation.snr_db", "[1, 2, 3]"]),
        # Out of range.
        (simulation({"speech": {"speed": [0.1, 1.0]}}), ["simulation.speech.speed.0", "equal to 0.5", "found 0.1"]),
        ({"frontend": {"hop": 0}}, ["frontend.hop", "greater than 0", "found 0"]),
        ({"frontend": {"hop": -256}}, ["frontend.hop", "found -256"]),
        ({"frontend": {"compression": 1.5}}, ["frontend.compression", "found 1.5"]),
        ({"model": {"latent": 0}}, ["model.latent", "found 0"]),
        ({"speech_weights": {"prior": -1}}, ["speech_weights.prior", "found -1"]),
        ({"training": {"joint_steps": 0}}, ["training.joint_steps", "found 0"]),
        ({"training": {"data": {"clip_seconds": 3000}}}, ["training.data.clip_seconds", "found 3000"]),
        ({"training": {"optimiser": {"learning_rate": 0}}}, ["training.optimiser.learning_rate", "found 0"]),
        # Contradictions.
        ({"frontend": {"hop": 257}}, ["frontend", "half the synthesis window", "257"]),
        ({"frontend": {"synthesis_window": 256}}, ["frontend", "half the synthesis window", "256"]),
        ({"frontend": {"synthesis_window": 1026}}, ["frontend", "at most the window", "1026"]),
        ({"frontend": {"synthesis_window": 511}}, ["frontend", "even", "511"]),
        ({"frontend": {"window": 1025}}, ["frontend", "even", "1025"]),
        ({"frontend": {"window": 0}}, ["frontend.window", "greater than 0"]),
        ({"frontend": {"loss_windows": [255]}}, ["frontend", "loss_windows", "[255]"]),
        ({"frontend": {"hop": True}}, ["frontend.hop", "True"]),
        ({"model": {"speech_encoder": {"widths": [0]}}}, ["model.speech_encoder.widths.0", "found 0"]),
        (simulation({"snr_db": [20, -5]}), ["simulation.snr_db", "20 to -5"]),
        ({"training": {"data": {"simulated_clips": 0}}}, ["model.mask", "simulated_clips is 0"]),
        # What would take terabytes, days, or no number at all.
        ({"frontend": {"window": 2**40}}, ["frontend.window", "16384"]),
        ({"frontend": {"loss_windows": list(range(16384, 0, -2))}}, ["frontend.loss_windows", "at most 8 items"]),
        ({"model": {"latent": 10**9}}, ["model.latent", "4096", "found 1000000000"]),
        ({"model": {"speech_encoder": {"widths": [4096] * 20}}}, ["model.speech_encoder", "weights, expected 268"]),
        ({"model": {"mask": {"blocks": 10**9}}}, ["model.mask.blocks", "64"]),
        ({"training": {"joint_steps": 10**12}}, ["training.joint_steps", "100000000"]),
        ({"training": {"seed": 2**70}}, ["training.seed", "4294967296"]),
        ({"training": {"data": {"speech_clips": 10**9}}}, ["training.data.speech_clips", "1000"]),
        (simulation({"room": {"count": 10**9}}), ["simulation.room.count", "10000"]),
        (simulation({"room": {"t60_seconds": [0.1, 1e9]}}), ["simulation.room.t60_seconds.1", "equal to 60"]),
        (simulation({"snr_db": [-1e9, 0]}), ["simulation.snr_db.0", "-200"]),
        ({"training": {"optimiser": {"betas": [0.9, 1.0]}}}, ["betas.1", "less than 1"]),
        ({"training": {"optimiser": {"learning_rate": float("nan")}}}, ["learning_rate", "finite"]),
        ({"joint_weights": {"cycle": float("inf")}}, ["joint_weights.cycle", "finite"]),
    ],
)
def test_a_mistake_is_named(default, change, words):
    message = refusal(changed(default, change))
    for word in words:
        assert word in message


def test_whole_numbers_may_be_written_as_floats(default):
    assert parse_settings(changed(default, {"frontend": {"hop": 256.0}}), "mine.yaml").frontend.hop == 256


def test_a_mask_needs_simulated_mixtures(default):
    weights = {key: 0.0 for key in JointWeights.model_fields if key.startswith("simulated_")}
    message = refusal(changed(default, {"joint_weights": weights}))
    assert "model.mask" in message
    assert "joint_weights.simulated_" in message
    # One of them is enough.
    parse_settings(changed(default, {"joint_weights": weights | {"simulated_complex": 1.0}}), "mine.yaml")


def test_missing_settings_are_named(default):
    del default["model"]["speech_encoder"]
    assert "model.speech_encoder: Field required" in refusal(default)
    assert "name: Field required (and 1 more)" in refusal({})


def test_several_mistakes_are_counted(default):
    assert "(and 1 more)" in refusal(changed(default, {"frontend": {"hop": 0.016, "compression": 2}}))


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"found no readable settings at .*none\.yaml \(No such file"):
        load_settings(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"name: [default", "found no valid YAML in"),
        (b"name: default\n\tmodel: 3", "found no valid YAML in"),
        (b"\xff\xfe\x00 RIFF", "found no valid YAML in"),
        (b"", "found NoneType in .*expected a mapping"),
        (b"- name\n- default", "found list in .*expected a mapping"),
        (b"default", "found str in .*expected a mapping"),
    ],
)
def test_files_that_hold_no_settings_are_refused(tmp_path, content, words):
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=words) as caught:
        load_settings(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_changes_its_base(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "first.yaml").write_text((CONF / "default.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "second.yaml").write_text(
        "base: first.yaml\nmodel: {latent: 32, mixture_encoder: {width: 16}}", encoding="utf-8"
    )
    (tmp_path / "deep" / "third.yaml").write_text(
        "base: ../second.yaml\nname: third\nmodel: {mixture_encoder: {width: 8}, mask: {width: 8}}\n"
        "frontend: {loss_windows: [512]}",
        encoding="utf-8",
    )
    default, third = load_settings(CONF / "default.yaml"), load_settings(tmp_path / "deep" / "third.yaml")
    assert (third.name, third.model.latent, third.model.mask.width) == ("third", 32, 8)
    # What nobody names stays; lists are replaced as a whole.
    assert third.model.mixture_encoder.blocks == default.model.mixture_encoder.blocks
    assert third.frontend.loss_windows == (512,)
    assert third.training == default.training


def test_a_mask_is_as_wide_as_the_features_that_it_goes_on_from(default):
    message = refusal(changed(default, {"model": {"mask": {"width": 3}}}))
    assert "mask.width is that of mixture_encoder" in message
    assert "32; found 3" in message


def test_terms_without_what_they_need_are_refused(default):
    assert "mask_pretask" in refusal(changed(default, {"joint_weights": {"simulated_ratio_mask": 1.0}}))


def test_a_missing_base_is_refused(tmp_path):
    (tmp_path / "mine.yaml").write_text("base: none.yaml\nname: mine", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"found no readable settings at .*none\.yaml"):
        load_settings(tmp_path / "mine.yaml")


def test_a_mistake_in_the_base_is_named_by_the_file_that_was_asked_for(tmp_path):
    text = (CONF / "default.yaml").read_text(encoding="utf-8")
    (tmp_path / "first.yaml").write_text(text + "\ncolour: red\n", encoding="utf-8")
    (tmp_path / "mine.yaml").write_text("base: first.yaml\nname: mine", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mine\.yaml: colour: unknown key, found 'red'"):
        load_settings(tmp_path / "mine.yaml")


def test_a_base_can_be_named(tmp_path):
    (tmp_path / "mine.yaml").write_text("base: example\nname: mine\nmodel: {latent: 8}", encoding="utf-8")
    mine, base = load_settings(tmp_path / "mine.yaml"), load_settings(CONF / "example.yaml")
    assert mine.model.latent == 8
    assert mine.training == base.training
    (tmp_path / "mine.yaml").write_text("base: postre\nname: mine", encoding="utf-8")
    with pytest.raises(ConfigError, match="found the settings 'postre'"):
        load_settings(tmp_path / "mine.yaml")


def test_settings_are_found_by_name_or_path():
    assert find_settings("live") == CONF / "live.yaml"
    assert find_settings("ablations/live_8ms") == CONF / "ablations" / "live_8ms.yaml"
    assert find_settings("some/where.yaml").as_posix() == "some/where.yaml"
    with pytest.raises(ConfigError, match=r"found the settings 'postre', expected one of .*default.*live"):
        find_settings("postre")


def test_every_key_of_a_dump_is_known(default):
    dumped = yaml.safe_load(dump_settings(parse_settings(default, "mine.yaml")))
    assert set(dumped) == set(SystemSettings.model_fields)


@pytest.mark.parametrize(("base", "words"), [("loop.yaml", "themselves"), (3, "found 3"), ("nothing", "'nothing'")])
def test_a_base_that_leads_nowhere_is_refused(tmp_path, base, words):
    path = tmp_path / "loop.yaml"
    path.write_text(f"base: {base}\nname: mine\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=words):
        load_settings(path)


def unbounded(schema, path=""):
    """Names of the numbers, and of the lists, of a JSON schema that may be as large as one likes."""
    if schema.get("type") in ("integer", "number"):
        if not schema.keys() & {"maximum", "exclusiveMaximum", "const"}:
            yield path
    elif schema.get("type") == "array" and "maxItems" not in schema:
        yield path
    for key, inner in schema.items():
        if key in {"properties", "$defs"}:
            for name, part in inner.items():
                yield from unbounded(part, f"{path}.{name}")
        elif isinstance(inner, dict):
            yield from unbounded(inner, f"{path}.{key}")
        elif isinstance(inner, list):
            for part in inner:
                if isinstance(part, dict):
                    yield from unbounded(part, path)


def test_no_number_and_no_list_is_without_a_bound():
    assert list(unbounded(SystemSettings.model_json_schema())) == []
    assert list(unbounded({"properties": {"a": {"type": "integer"}, "b": {"type": "array"}}})) == [".a", ".b"]
