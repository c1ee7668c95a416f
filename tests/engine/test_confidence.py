"""How sure a model is: what it is made of, blocks, and what is left alone."""

from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch

import sottovoce
from sottovoce.engine.adapters import ADAPTED_SUFFIX
from sottovoce.engine.confidence import FADED, NEIGHBOURS, TRUSTED, Caution, ConfidenceMeter, trust, trusted_confidence
from sottovoce.engine.enhancer import Enhancer
from sottovoce.engine.graph import operators, with_outputs
from sottovoce.engine.model import Model
from sottovoce.errors import ConfigError, ModelError
from sottovoce.models.blocks import Past
from sottovoce.models.checkpoint import load_checkpoint
from sottovoce.weights import CHECKPOINTS, MODELS

from ..conftest import build_identity_model
from ..systems import RATE, speech


@pytest.fixture(scope="module")
def default():
    """The bundled default model."""
    return sottovoce.load("default")


@pytest.fixture(scope="module")
def identity(tmp_path_factory):
    """An enhancer without a decoder."""
    path = tmp_path_factory.mktemp("model") / "identity.onnx"
    return Enhancer(Model.load(build_identity_model(path, windows=(512,), hop=256)))


def beeps(seconds):
    """Three tones that no voice has: they come and go together."""
    time = np.arange(round(seconds * RATE)) / RATE
    tones = sum(np.sin(2 * np.pi * hz * time) for hz in (1200, 3100, 5300))
    return (0.05 * tones * (time % 0.5 < 0.3)).astype(np.float32)


def metered(enhancer, blocks, rate=RATE, channels=1):
    meter = ConfidenceMeter(enhancer, rate, channels)
    for block in blocks:
        meter.push(block)
    meter.push(np.zeros((channels, 0), np.float32), last=True)
    return meter


def test_confidence_is_that_of_the_networks_of_the_training(default):
    waveform = speech(2.0)
    system = load_checkpoint(CHECKPOINTS["default"])[0]
    with torch.no_grad():
        spectra = system.analyse(torch.from_numpy(waveform[np.newaxis]))
        translation = system.translate(spectra / system.level(spectra, Past()))
        output = system.compressed(translation.spectrum)
        error = (translation.amplitude - output).square().sum() / output.square().sum()
    # The weights of the checkpoint have half the precision, and the meter sees the zeros behind the end as well.
    assert metered(default, [waveform[np.newaxis]]).whole == pytest.approx(1 - float(error), abs=0.02)


@pytest.mark.parametrize("model", TRUSTED)
def test_speech_is_trusted_more_than_beeps(model):
    enhancer = sottovoce.load(model)
    assert enhancer.confidence(speech(3.0), RATE).min() > TRUSTED[model] - FADED
    assert enhancer.confidence(beeps(3.0), RATE).max() < TRUSTED[model] - FADED


def test_blocks_do_not_matter(default):
    waveform = speech(2.5)[np.newaxis]
    whole = metered(default, [waveform]).per_second
    cut = metered(default, [waveform[:, start : start + 777] for start in range(0, waveform.shape[1], 777)]).per_second
    np.testing.assert_allclose(cut, whole, atol=1e-4)


def test_level_and_rate_do_not_matter_much(default):
    waveform = speech(2.0)
    whole = default.confidence(waveform, RATE)
    np.testing.assert_allclose(default.confidence(0.1 * waveform, RATE), whole, atol=0.02)
    doubled = sottovoce.engine.enhancer.Resampler(RATE, 48000, 1)
    np.testing.assert_allclose(
        default.confidence(doubled.push(waveform[np.newaxis], last=True)[0], 48000)[:2], whole, atol=0.02
    )


def test_every_second_has_a_value(default):
    assert default.confidence(speech(2.5), RATE).shape == (3,)
    assert default.confidence(np.zeros(0, np.float32), float(RATE)).shape == (0,)
    assert default.confidence(np.zeros((2, 100), np.float32), RATE).shape == (1,)


def test_silence_and_what_is_no_number_are_no_doubt(default):
    waveform = np.zeros(2 * RATE, np.float32)
    assert default.confidence(waveform, RATE).tolist() == [1.0, 1.0]
    waveform[5000:5003] = np.nan, np.inf, 1e30
    assert default.confidence(waveform, RATE).tolist() == [1.0, 1.0]


def test_a_second_counts_its_neighbours(default):
    """Beeps behind speech: the seconds around the change are between."""
    waveform = np.concatenate([speech(6.0), beeps(2 * NEIGHBOURS + 6.0)])
    values = default.confidence(waveform, RATE)
    assert values[0] > TRUSTED["default"] - FADED > values[-1]
    assert values[0] > values[6] > values[-1]


@pytest.mark.parametrize("waveform", [np.zeros((1, 1, 1), np.float32), np.zeros(9, np.int16)])
def test_what_is_no_waveform_is_refused(default, waveform):
    with pytest.raises(ValueError, match="found"):
        default.confidence(waveform, RATE)


def test_a_model_without_a_decoder_is_refused(identity):
    with pytest.raises(ModelError, match="found no decoder of speech"):
        identity.confidence(speech(1.0), RATE)
    with pytest.raises(ConfigError, match="no confidence is known"):
        trusted_confidence(identity.model)


def test_an_adapted_model_has_the_bounds_of_the_bundled_one():
    adapted = SimpleNamespace(metadata=SimpleNamespace(name=f"default{ADAPTED_SUFFIX}"))
    assert trusted_confidence(adapted) == TRUSTED["default"]


def test_caution_leaves_alone_what_is_not_known():
    rng = np.random.default_rng(0)
    received, enhanced = rng.standard_normal((2, 2, 4 * RATE)).astype(np.float32)
    confidence = np.array([0.9, 0.9, 0.5, 0.5], np.float32)
    caution = Caution(confidence, 0.8, RATE, 2)
    # The output comes later than the input, and in other blocks.
    parts = [caution.mixed(received[:, :RATE], enhanced[:, :0])]
    parts.append(caution.mixed(received[:, RATE:], enhanced[:, : 3 * RATE]))
    parts.append(caution.mixed(received[:, :0], enhanced[:, 3 * RATE :]))
    output = np.concatenate(parts, axis=1)
    np.testing.assert_array_equal(output[:, : 3 * RATE // 2], enhanced[:, : 3 * RATE // 2])
    np.testing.assert_array_equal(output[:, -3 * RATE // 2 :], received[:, -3 * RATE // 2 :])
    middle = 2 * RATE
    between = (output - received)[:, middle] / (enhanced - received)[:, middle]
    assert (between > 0).all()
    assert (between < 1).all()


def test_nothing_is_removed_of_what_is_not_known():
    removed = np.ones((1, 2 * RATE), np.float32)
    unknown = Caution(np.zeros(2, np.float32), 0.8, RATE, 1, removed=True)
    assert not unknown.mixed(np.full((1, 2 * RATE), 5.0, np.float32), removed).any()


def test_a_sample_that_is_no_number_comes_out_as_silence():
    received = np.array([[0.5, np.nan, np.inf, 1e30]], np.float32)
    for confidence, expected in ((0.0, [[0.5, 0, 0, 0]]), (1.0, [[0.25] * 4])):
        caution = Caution(np.full(1, confidence, np.float32), 0.8, RATE, 1)
        np.testing.assert_array_equal(caution.mixed(received, np.full((1, 4), 0.25, np.float32)), expected)


def test_trust_rises_with_confidence():
    assert trust(np.array([0.0, 0.8 - FADED, 0.8 - FADED / 2, 0.8, 1.0]), 0.8) == pytest.approx([0, 0, 0.5, 1, 1])


def test_what_an_operator_gives_becomes_an_output():
    content = MODELS["default"].read_bytes()
    graph = onnx.load_from_string(content).graph
    found = operators(content)
    assert [(node.op_type, list(node.input), list(node.output)) for node in graph.node] == [
        (operator.kind, list(operator.inputs), list(operator.outputs)) for operator in found
    ]
    more = onnx.load_from_string(with_outputs(content, (found[7].outputs[0],))).graph
    assert [output.name for output in more.output] == [*(output.name for output in graph.output), found[7].outputs[0]]
