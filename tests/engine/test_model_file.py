"""The one file: what is ours is read, and everything else is refused in one clear sentence."""

import hashlib

import onnx
import pytest

from sottovoce.engine.model import Model
from sottovoce.engine.model_file import METADATA_KEY, seal
from sottovoce.errors import ModelError

from .model_files import TAIL, identity_file, refusal

__all__ = ["identity_file"]  # a fixture


def test_seal_keeps_a_valid_onnx_model(model_file):
    content = model_file.read_bytes()
    payload = content[:-TAIL]
    assert seal(payload) == content
    assert content[-64:].decode() == hashlib.sha256(payload).hexdigest()
    graph = onnx.load_from_string(content)
    onnx.checker.check_model(graph)
    assert graph.graph == onnx.load_from_string(payload).graph
    assert {entry.key for entry in graph.metadata_props} == {METADATA_KEY, "sottovoce_sha256"}


def test_missing_file_is_refused(tmp_path):
    message = refusal(tmp_path / "none.onnx")
    assert "found no readable model file" in message
    assert "No such file" in message
    assert f"found no model.onnx in the folder {tmp_path}" in refusal(tmp_path)


@pytest.mark.parametrize("content", [b"", b"x", b"RIFF\x00\x00\x00\x00WAVE", b"\x00" * 1000])
def test_foreign_file_is_refused(tmp_path, content):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert "is not a model exported by sottovoce" in refusal(path)


def test_foreign_onnx_is_refused(model_file):
    # A valid ONNX model, but nothing says that it was sealed here.
    payload = model_file.read_bytes()[:-TAIL]
    onnx.checker.check_model(onnx.load_from_string(payload))
    model_file.write_bytes(payload)
    assert "is not a model exported by sottovoce" in refusal(model_file)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_cut_file_is_refused(model_file, kept):
    content = model_file.read_bytes()
    model_file.write_bytes(content[: int(kept * len(content))])
    assert "cut or altered" in refusal(model_file)


@pytest.mark.parametrize("place", [0, 100, 0.3, 0.6, -TAIL - 1, -TAIL, -70, -1])
def test_one_altered_byte_is_refused(model_file, place):
    content = bytearray(model_file.read_bytes())
    content[int(place * len(content)) if isinstance(place, float) else place] ^= 1
    model_file.write_bytes(content)
    assert "cut or altered" in refusal(model_file)


def test_appended_bytes_are_refused(model_file):
    model_file.write_bytes(model_file.read_bytes() + b"\n")
    assert "cut or altered" in refusal(model_file)


def test_unsealed_bytes_are_named_by_their_origin():
    with pytest.raises(ModelError, match=r"^the upload is not a model"):
        Model(b"nothing", "the upload")
