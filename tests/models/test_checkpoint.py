"""Checkpoints: everything comes back, and nothing but a checkpoint is accepted."""

import json
import pickle

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from sottovoce.errors import ModelError
from sottovoce.models.checkpoint import load_checkpoint, save_checkpoint

from ..systems import build, small_settings, speech


@pytest.fixture
def settings():
    return small_settings()


@pytest.fixture
def checkpoint(tmp_path):
    settings = small_settings()
    save_checkpoint(tmp_path / "checkpoint.safetensors", build(settings), settings)
    return tmp_path / "checkpoint.safetensors"


def refusal(path):
    """Return the message with which a file is refused."""
    with pytest.raises(ModelError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_round_trip(tmp_path, settings):
    system = build(settings)
    path = tmp_path / "runs" / "checkpoint.safetensors"
    save_checkpoint(path, system, settings)
    loaded, found = load_checkpoint(path)
    assert found == settings
    assert not loaded.training
    assert loaded.state_dict().keys() == system.state_dict().keys()
    assert all(torch.equal(value, system.state_dict()[name]) for name, value in loaded.state_dict().items())
    waveform = torch.from_numpy(speech(0.3))[None]
    assert torch.equal(loaded.enhance(waveform), system.enhance(waveform))


def test_half_precision_is_close_and_half_as_large(tmp_path, settings):
    system = build(settings)
    save_checkpoint(tmp_path / "full.safetensors", system, settings)
    save_checkpoint(tmp_path / "half.safetensors", system, settings, torch.float16)
    loaded, _ = load_checkpoint(tmp_path / "half.safetensors")
    assert {value.dtype for value in loaded.parameters()} == {torch.float32}
    waveform = torch.from_numpy(speech(0.3))[None]
    expected = system.enhance(waveform)
    error = loaded.enhance(waveform) - expected
    assert 0 < error.square().mean() < 1e-4 * expected.square().mean()
    stored = [sum(t.nbytes for t in tensors(tmp_path / f"{name}.safetensors")) for name in ("half", "full")]
    assert stored[0] == pytest.approx(stored[1] / 2, rel=0.01)


def tensors(path):
    with safe_open(path, "pt") as content:
        return [content.get_tensor(name) for name in content.keys()]  # noqa: SIM118 (not a mapping)


def test_file_is_a_header_and_numbers_without_pickle(checkpoint):
    content = checkpoint.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert json.loads(header["__metadata__"]["sottovoce"])["name"] == "default"
    assert all(entry["dtype"] == "F32" for name, entry in header.items() if name != "__metadata__")
    with pytest.raises((ValueError, pickle.UnpicklingError)):
        pickle.loads(content)


def test_saving_again_replaces_and_leaves_nothing_else(checkpoint):
    settings = small_settings()
    save_checkpoint(checkpoint, build(settings, seed=1), settings)
    assert [path.name for path in checkpoint.parent.iterdir()] == [checkpoint.name]
    loaded, _ = load_checkpoint(checkpoint)
    assert torch.equal(next(loaded.parameters()), next(build(settings, seed=1).parameters()))


def test_saving_does_not_change_the_system(tmp_path):
    settings = small_settings()
    system = build(settings).train()
    save_checkpoint(tmp_path / "a.safetensors", system, settings, torch.float16)
    assert system.training
    assert {value.dtype for value in system.parameters()} == {torch.float32}


def test_missing_file_is_refused(tmp_path):
    assert "found no readable training checkpoint" in refusal(tmp_path / "none.safetensors")
    (tmp_path / "loop.safetensors").symlink_to("loop.safetensors")
    assert "(Too many levels of symbolic links)" in refusal(tmp_path / "loop.safetensors")


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 pickled by torch.save", b"no tensors at all, just some text" * 9]
)
def test_foreign_file_is_refused(tmp_path, content):
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(content)
    assert "is not a training checkpoint" in refusal(path)


def test_tensors_of_another_program_are_refused(tmp_path):
    save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors", metadata={"format": "pt"})
    assert "is not a training checkpoint" in refusal(tmp_path / "other.safetensors")


@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_cut_file_is_refused(checkpoint, share):
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: int(share * len(content))])
    assert "it was cut" in refusal(checkpoint)


@pytest.mark.parametrize(
    "change", [{"latent": 9}, {"noise_code": 2}, {"mask_pretask": False}, {"mixture_encoder": {"blocks": 2}}]
)
def test_networks_that_the_settings_do_not_describe_are_refused(tmp_path, change):
    save_checkpoint(tmp_path / "a.safetensors", build(small_settings()), small_settings(model=change))
    assert "holds other networks" in refusal(tmp_path / "a.safetensors")


def test_numbers_survive_exactly(checkpoint):
    system = build(small_settings())
    loaded, _ = load_checkpoint(checkpoint)
    for name, value in system.state_dict().items():
        np.testing.assert_array_equal(loaded.state_dict()[name], value)


@pytest.mark.parametrize("settings", ["[" * 100_000, '{"name": NaN}', "[]", '{"x": ' * 50 + "1" + "}" * 50])
def test_settings_that_are_no_settings_are_refused(checkpoint, settings):
    content = checkpoint.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"]["sottovoce"] = settings
    changed = json.dumps(header).encode()
    checkpoint.write_bytes(len(changed).to_bytes(8, "little") + changed + content[8 + length :])
    assert "has settings that this version cannot use" in refusal(checkpoint)
