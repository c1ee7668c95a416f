"""What a model file says of its network: every value has a type and a range, or is refused in one clear sentence."""

from dataclasses import FrozenInstanceError

import onnx
import pytest

from sottovoce.engine.metadata import ModelMetadata
from sottovoce.engine.model import Model
from sottovoce.engine.model_file import seal

from .model_files import TAIL, identity_file, refusal, resealed

__all__ = ["identity_file"]  # a fixture


def nested(depth):
    """A mapping in a mapping in a mapping ..."""
    content = {}
    for _ in range(depth):
        content = {"inner": content}
    return content


def test_metadata_are_frozen_and_complete(model_file):
    metadata = Model.load(model_file).metadata
    with pytest.raises(FrozenInstanceError):
        metadata.hop = 1
    assert ModelMetadata.from_json(metadata.to_json()) == metadata


def test_other_format_version_is_refused(model_file):
    message = refusal(resealed(model_file, lambda content: content.update(format_version=1)))
    assert "format version: found 1, expected 2" in message
    assert "update sottovoce" in message


@pytest.mark.parametrize(
    ("words", "change"),
    [
        ("keys: hop", lambda content: content.pop("hop")),
        ("hop: found 'wide', expected a whole number from 1", lambda content: content.update(hop="wide")),
        ("hop: found True, expected a whole number", lambda content: content.update(hop=True)),
        ("hop: found 16.0, expected a whole number", lambda content: content.update(hop=16.0)),
        (
            "sample_rate: found 0, expected a whole number from 8000 to 48000",
            lambda content: content.update(sample_rate=0),
        ),
        ("sample_rate: found 1099511627776", lambda content: content.update(sample_rate=2**40)),
        ("synthesis_window: found None", lambda content: content.update(synthesis_window=None)),
        ("synthesis window of 66 samples", lambda content: content.update(synthesis_window=66)),
        ("windows: found [], expected a list of 1 to 8", lambda content: content.update(windows=[])),
        ("windows: found 512, expected a list", lambda content: content.update(windows=512)),
        ("windows: found 4294967296", lambda content: content.update(windows=[2**32])),
        ("delay_frames: found -1", lambda content: content.update(delay_frames=-1)),
        ("delay_frames: found 1000000000", lambda content: content.update(delay_frames=10**9)),
        ("past_shapes: found [66], expected a list of 2", lambda content: content.update(past_shapes=[[66]])),
        ("past_shapes: found more than 16,777,216", lambda content: content.update(past_shapes=[[2**20, 2**20]])),
        ("parameters: found 'many'", lambda content: content.update(parameters="many")),
        ("name: found ['x'], expected text", lambda content: content.update(name=["x"])),
        ("licence: found None, expected text", lambda content: content.update(licence=None)),
        ("training_data: found {}, expected a list", lambda content: content.update(training_data={})),
        ("training_data: found 3, expected text", lambda content: content.update(training_data=[3])),
        ("command: found 'xxx", lambda content: content.update(command="x" * 20_000)),
        ("settings: found [], expected a mapping", lambda content: content.update(settings=[])),
        ("16 levels deep", lambda content: content.update(settings=nested(20))),
        ("characters of JSON", lambda content: content.update(settings={"x": "x" * 2**20})),
        ("found NaN, which is no number", lambda content: content.update(settings={"rate": float("nan")})),
        ("keys: colour", lambda content: content.update(colour="red")),
    ],
)
def test_settings_that_cannot_be_used_are_refused(model_file, words, change):
    message = refusal(resealed(model_file, change))
    assert "has settings that this version cannot use" in message
    assert words in message


def test_sealed_onnx_without_settings_is_refused(model_file):
    graph = onnx.load_from_string(model_file.read_bytes()[:-TAIL])
    del graph.metadata_props[:]
    model_file.write_bytes(seal(graph.SerializeToString()))
    assert "has settings that this version cannot use" in refusal(model_file)
