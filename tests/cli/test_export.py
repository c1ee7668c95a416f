"""`sottovoce export`: a checkpoint becomes a model file that enhances as PyTorch does, or one sentence says why not."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import sottovoce
from sottovoce import cli
from sottovoce.models import export as export_module
from sottovoce.models.checkpoint import load_checkpoint, save_checkpoint
from sottovoce.models.export import Provenance, export_model
from sottovoce.weights import MODELS

from ..systems import build, small_settings, speech, without_warm_up


@pytest.fixture
def checkpoint(tmp_path):
    settings = small_settings()
    save_checkpoint(tmp_path / "checkpoint.safetensors", build(settings), settings)
    return tmp_path / "checkpoint.safetensors"


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command; give its exit code and what it prints."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["sottovoce", "export", *map(str, arguments)])
        code = cli.main()
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def untraced(monkeypatch):
    """No graph is made, which takes long: what is refused is refused before."""

    def trace(*settings):
        raise AssertionError("the network was exported")

    monkeypatch.setattr(export_module, "_trace", trace)


@pytest.mark.slow
@pytest.mark.usefixtures("traced_once")
def test_exported_checkpoint_enhances_as_pytorch_does(tmp_path, checkpoint, run):
    code, out, err = run(checkpoint, "-o", tmp_path / "a.onnx", "--licence", "CC0-1.0", "--training-data", "One.")
    assert code == 0, err
    assert out.startswith(f"Wrote {tmp_path / 'a.onnx'}: 0.")
    assert out.endswith(" MB, 16000 Hz, latency 4 ms, licence CC0-1.0.\n")
    assert err.startswith("sottovoce: ONNX Runtime gives what PyTorch gives: they differ by -")
    enhancer = sottovoce.load(tmp_path / "a.onnx")
    assert enhancer.model.metadata.training_data == ("One.",)
    waveform = speech(1.0)
    expected = load_checkpoint(checkpoint)[0].enhance(torch.from_numpy(waveform)[None])[0].numpy()
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(without_warm_up(enhancer, waveform), expected, atol=1e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("traced_once")
def test_folder_of_a_run_keeps_what_its_model_says_of_its_origin(tmp_path, checkpoint, run):
    network, settings = load_checkpoint(checkpoint)
    export_model(tmp_path / "model.onnx", network, settings, Provenance("CC0-1.0", ("One.", "Two."), "sottovoce train"))
    before = (tmp_path / "model.onnx").read_bytes()
    code, _, err = run(tmp_path, "-o", tmp_path / "again.onnx")
    assert code == 0, err
    assert (tmp_path / "again.onnx").read_bytes() == before
    assert run(tmp_path, "-o", tmp_path / "again.onnx", "--licence", "none", "--overwrite")[0] == 0
    metadata = sottovoce.load(tmp_path / "again.onnx").model.metadata
    assert (metadata.licence, metadata.training_data) == ("none", ("One.", "Two."))


@pytest.mark.slow
@pytest.mark.usefixtures("traced_once")
@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda name, value: torch.full_like(value, torch.nan), "gave values that are no numbers"),
        # As an exporter that is wrong about a layer: the file has other weights than the system.
        (None, "differs from the trained one by -"),
    ],
)
def test_a_network_that_does_not_agree_is_not_written(tmp_path, checkpoint, run, monkeypatch, damage, sentence):
    if damage is None:
        with_weights = export_module._with_weights

        def wrong(model, system):
            with torch.no_grad():
                system.model.mask.network.gate.bias += 0.1
            return with_weights(model, system)

        monkeypatch.setattr(export_module, "_with_weights", wrong)
    else:
        network, settings = load_checkpoint(checkpoint)
        network.load_state_dict({name: damage(name, value) for name, value in network.state_dict().items()})
        save_checkpoint(checkpoint, network, settings)
    code, out, err = run(checkpoint, "-o", tmp_path / "a.onnx")
    assert (code, out) == (1, "")
    (line,) = err.splitlines()
    assert sentence in line
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.name]


def refused(run, *arguments):
    code, out, err = run(*arguments)
    assert (code, out) == (1, "")
    (line,) = err.splitlines()
    return line


@pytest.mark.usefixtures("untraced")
def test_what_is_no_checkpoint_is_refused(tmp_path, checkpoint, run):
    output = tmp_path / "new" / "a.onnx"
    (tmp_path / "unfinished").mkdir()
    message = refused(run, tmp_path / "unfinished", "-o", output)
    assert message.endswith("which is there when its training has finished")
    assert "found no readable training checkpoint" in refused(run, tmp_path / "none", "-o", output)
    shutil.copy(MODELS["live"], tmp_path / "model.onnx")
    message = refused(run, tmp_path / "model.onnx", "-o", output)
    assert "found the exported model" in message
    assert "give the checkpoint.safetensors that lies beside it" in message
    (tmp_path / "a.safetensors").write_bytes(checkpoint.read_bytes()[:-100])
    assert "is not a training checkpoint of sottovoce, or it was cut" in refused(
        run, tmp_path / "a.safetensors", "-o", output
    )
    assert not output.parent.exists()


@pytest.mark.usefixtures("untraced")
def test_a_checkpoint_of_another_version_is_refused(tmp_path, checkpoint, run):
    with safe_open(checkpoint, "pt") as content:
        settings = json.loads(content.metadata()["sottovoce"])
        tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 (not a mapping)
    settings["model"]["attention_heads"] = 4
    save_file(tensors, checkpoint, {"sottovoce": json.dumps(settings)})
    message = refused(run, checkpoint, "-o", tmp_path / "a.onnx")
    assert "has settings that this version cannot use" in message
    assert "attention_heads" in message


@pytest.mark.usefixtures("untraced")
def test_the_output_is_checked_first(tmp_path, checkpoint, run):
    assert "expected a name that ends in .onnx" in refused(run, checkpoint, "-o", tmp_path / "a.bin")
    (tmp_path / "a.onnx").write_bytes(b"kept")
    assert "which is kept: name another output, or add --overwrite" in refused(
        run, checkpoint, "-o", tmp_path / "a.onnx"
    )
    assert (tmp_path / "a.onnx").read_bytes() == b"kept"
    assert "(Not a directory): name another output" in refused(run, checkpoint, "-o", tmp_path / "a.onnx" / "b.onnx")
