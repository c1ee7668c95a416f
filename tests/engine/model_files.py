"""Model files to test with."""

import json

import onnx
import pytest

from sottovoce.engine.model import Model
from sottovoce.engine.model_file import METADATA_KEY, seal
from sottovoce.errors import ModelError

from ..conftest import build_identity_model

TAIL = 86  # field head, key of 16 bytes, hash of 64


@pytest.fixture(name="model_file")
def identity_file(tmp_path):
    return build_identity_model(tmp_path / "model.onnx", windows=(64, 32), hop=16, delay_frames=3)


def refusal(path):
    """Return the message with which a file is refused: one sentence that names the file."""
    with pytest.raises(ModelError) as caught:
        Model.load(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < 400
    return message


def resealed(path, change):
    """Change the metadata of a model file and seal it again."""
    graph = onnx.load_from_string(path.read_bytes()[:-TAIL])
    properties = {entry.key: entry.value for entry in graph.metadata_props}
    content = json.loads(properties[METADATA_KEY])
    change(content)
    onnx.helper.set_model_props(graph, {METADATA_KEY: json.dumps(content)})
    path.write_bytes(seal(graph.SerializeToString()))
    return path
