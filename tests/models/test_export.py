"""The exported file against the system it was made from."""

import json

import numpy as np
import onnx
import pytest
import torch

from sottovoce.config import find_settings, load_settings, parse_settings
from sottovoce.engine.enhancer import Enhancer
from sottovoce.engine.metadata import ROOMS
from sottovoce.engine.model import Model
from sottovoce.engine.model_file import METADATA_KEY
from sottovoce.errors import ModelError
from sottovoce.models import export as export_module
from sottovoce.models.adapters import attach, merge
from sottovoce.models.bands import BandBlock
from sottovoce.models.blocks import Past
from sottovoce.models.checkpoint import load_checkpoint
from sottovoce.models.export import Provenance, adapters_between, export_model
from sottovoce.models.joint import count_parameters
from sottovoce.weights import CHECKPOINTS, MODELS

from ..systems import SMALL_SYSTEMS, build, small_settings, speech, without_warm_up

traced = pytest.mark.slow  # tracing a graph takes long, and several tests share one

SYSTEMS = {"default": lambda: load_settings(find_settings("default")), **SMALL_SYSTEMS}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Export a system once: give its settings, the system and the file."""
    cache = {}

    def export(name):
        if name not in cache:
            settings = SYSTEMS[name]()
            system = build(settings)
            for block in system.modules():
                if isinstance(block, BandBlock) and block.room is not None:  # as if it had been learned
                    torch.nn.init.normal_(block.room.weight, generator=torch.Generator().manual_seed(0))
            path = tmp_path_factory.mktemp("export") / "model.onnx"
            metadata = export_model(path, system, settings, Provenance("CC0-1.0", ("One.", "Two."), "sottovoce train"))
            assert metadata == Model.load(path).metadata
            cache[name] = settings, system, path
        return cache[name]

    return export


@traced
@pytest.mark.parametrize("name", SYSTEMS)
def test_file_enhances_as_the_system_does(exported, name):
    _, system, path = exported(name)
    # From the middle of a word to the middle of another: both ends count.
    waveform = np.stack([speech(1.0), speech(1.0, start_seconds=4.0, kind="clean")])
    expected = system.enhance(torch.from_numpy(waveform)).numpy()
    enhanced = without_warm_up(Enhancer(Model.load(path)), waveform)
    assert enhanced.shape == waveform.shape
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(enhanced, expected, atol=1e-4)


@traced
@pytest.mark.parametrize("name", SMALL_SYSTEMS)
@pytest.mark.parametrize("samples", [1, 15, 16, 17, 63, 64, 65, 1001])
def test_short_signals_agree_too(exported, name, samples):
    _, system, path = exported(name)
    waveform = speech(1.0)[:samples]
    expected = system.enhance(torch.from_numpy(waveform)[None])[0].numpy()
    np.testing.assert_allclose(without_warm_up(Enhancer(Model.load(path)), waveform), expected, atol=1e-4)


@traced
@pytest.mark.parametrize("name", SMALL_SYSTEMS)
@pytest.mark.parametrize("gain", [0.0, 1.0])
def test_digital_silence_gives_numbers(exported, name, gain):
    # The exporter may take the small constants that keep roots and divisions finite for zeros, and drop them.
    _, system, path = exported(name)
    waveform = gain * speech(0.5)
    waveform[2000:6000] = 0
    expected = system.enhance(torch.from_numpy(waveform)[None])[0].numpy()
    enhanced = without_warm_up(Enhancer(Model.load(path)), waveform)
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(enhanced, expected, atol=1e-4)


def test_the_room_is_a_state_that_the_file_begins_with(exported):
    _, system, path = exported("small")
    assert Model.load(path).metadata.rooms == ("natural", "keep", "dry")
    assert [value.name for value in onnx.load(path).graph.input][:3] == ["spectra", "past_0", "past_1"]
    waveform = speech(1.0)
    enhanced = {}
    for room in ROOMS:
        expected = system.enhance(torch.from_numpy(waveform)[None], room)[0].numpy()
        enhanced[room] = without_warm_up(Enhancer(Model.load(path)), waveform, room=room)
        np.testing.assert_allclose(enhanced[room], expected, atol=1e-4)
    assert not np.allclose(enhanced["natural"], enhanced["dry"], atol=1e-3)
    assert not np.allclose(enhanced["natural"], enhanced["keep"], atol=1e-3)


@pytest.mark.parametrize("name", SMALL_SYSTEMS)
def test_what_is_traced_has_the_shapes_of_the_system(name):
    settings = SMALL_SYSTEMS[name]()
    system = build(settings)
    spectra = torch.randn(3, 2, system.bins, 5)
    past = Past()
    enhanced = system(spectra, past)
    deployed, begin = export_module._deployed(system)
    traced_enhanced, *traced_past = deployed(spectra, *(state.expand(3, -1, -1) for state in begin))
    assert traced_enhanced.shape == enhanced.shape == spectra.shape
    assert [state.shape for state in traced_past] == [state.shape for state in past.next]


@traced
def test_one_frame_at_a_time_gives_the_same(exported):
    _, system, path = exported("small")
    model = Model.load(path)
    spectra = np.random.default_rng(0).standard_normal((3, 2, 33, 20)).astype(np.float32)
    past, pieces = model.initial_past(3), []
    for n in range(20):
        enhanced, past = model.run(spectra[..., n : n + 1], past)
        pieces.append(enhanced)
    with torch.no_grad():
        expected = system(torch.from_numpy(spectra), Past())
    np.testing.assert_allclose(np.concatenate(pieces, axis=-1), expected, atol=1e-4, rtol=1e-4)


@traced
def test_metadata_say_what_a_reader_must_know(exported):
    settings, system, path = exported("default")
    metadata = Model.load(path).metadata
    assert (metadata.name, metadata.sample_rate, metadata.windows, metadata.hop) == ("default", 16000, (1024,), 256)
    assert (metadata.synthesis_window, metadata.delay_frames) == (512, 0)
    assert metadata.latency_seconds == pytest.approx(0.032)
    assert metadata.parameters == count_parameters(system.run_time_parts())
    assert 0 < metadata.multiply_adds_per_second <= 80_000_000
    assert metadata.licence == "CC0-1.0"
    assert metadata.training_data == ("One.", "Two.")
    assert metadata.command == "sottovoce train"
    assert parse_settings(metadata.settings, "metadata") == settings


def slow_for_single_frames(graph):
    """Names of nodes that ONNX Runtime computes value by value where tensors have one frame."""
    described = onnx.shape_inference.infer_shapes(graph).graph
    axes = {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*described.input, *described.value_info, *described.output)
    }
    single = {tensor.name: len(tensor.dims) for tensor in graph.graph.initializer if np.prod(tensor.dims) == 1}
    elementwise = {"Add", "Div", "Greater", "LessOrEqual", "Max", "Mul", "Sub", "Where"}
    return [
        node.name or node.output[0]
        for node in graph.graph.node
        if node.op_type in ("Pow", "Softplus")
        or (node.op_type in elementwise and any(single.get(name, 9) < axes[node.output[0]] for name in node.input))
    ]


@pytest.mark.parametrize("name", MODELS)
def test_single_frames_are_cheap_in_bundled_files(name):
    assert slow_for_single_frames(onnx.load(MODELS[name])) == []


@traced
def test_single_frames_are_cheap_in_any_file(exported):
    assert slow_for_single_frames(onnx.load(exported("small")[2])) == []


@traced
def test_file_is_a_valid_onnx_model_and_tells_nothing_else(exported):
    _, _, path = exported("small")
    graph = onnx.load(path)
    onnx.checker.check_model(graph)
    # A runtime would warn of constants that nobody uses.
    used = {name for node in graph.graph.node for name in node.input}
    assert {tensor.name for tensor in graph.graph.initializer} <= used
    properties = {entry.key: entry.value for entry in graph.metadata_props}
    assert set(properties) == {METADATA_KEY, "sottovoce_sha256"}
    assert json.loads(properties[METADATA_KEY])["name"] == "default"
    # The graph holds what runs: nothing of E_S, D_M, D_P or the noise code.
    stored = sum(int(np.prod(tensor.dims)) for tensor in graph.graph.initializer if tensor.data_type == 1)
    assert stored < sum(parameter.numel() for parameter in build(SYSTEMS["small"]()).parameters())


@traced
def test_file_holds_no_path_of_the_machine(exported):
    _, _, path = exported("small")
    content = path.read_bytes()
    for trace in (b"site-packages", b"/sottovoce/", b"Traceback", str(path.parent).encode()):
        assert trace not in content


@traced
def test_export_leaves_the_system_as_it_is(tmp_path):
    settings = small_settings()
    system = build(settings).train()
    before = {name: value.clone() for name, value in system.state_dict().items()}
    export_model(tmp_path / "a.onnx", system, settings, Provenance())
    assert system.training
    assert all(torch.equal(value, before[name]) for name, value in system.state_dict().items())
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]


def with_adapters(system, rank):
    """Give a system changes of a rank, of a size that training gives them."""
    adapters = attach(system.adapted_parts(), rank, torch.Generator().manual_seed(1))
    with torch.no_grad():
        for parameter in (parameter for adapter in adapters for parameter in adapter.parameters()):
            parameter.add_(0.03 * torch.randn(parameter.shape))
    merge(system)
    return system


def place(path, base, old, new, rank):
    path.write_bytes(
        adapters_between(base.read_bytes(), old, new, rank=rank, training_data=("A room.",), command="adapt")
    )
    return path


@pytest.mark.parametrize("name", MODELS)
def test_a_bundled_model_with_a_place_enhances_as_the_adapted_system_does(tmp_path, name):
    old, new = (load_checkpoint(CHECKPOINTS[name])[0] for _ in range(2))
    with_adapters(new, 4)
    path = place(tmp_path / "model.place", MODELS[name], old, new, 4)
    assert path.stat().st_size <= 100_000
    waveform = speech(1.0)[None]
    expected, before = (system.enhance(torch.from_numpy(waveform)).numpy() for system in (new, old))
    assert np.abs(expected - before).max() > 1e-3
    np.testing.assert_allclose(without_warm_up(Enhancer(Model.load(path)), waveform), expected, atol=2e-5)


@traced
@pytest.mark.parametrize("rank", [0, 1, 4])
def test_a_place_on_the_exported_model_is_the_adapted_system_exported(exported, tmp_path, rank):
    settings, old, base = exported("default")
    new = build(settings)
    new.load_state_dict(old.state_dict())
    with_adapters(new, rank)
    export_model(tmp_path / "adapted.onnx", new, settings, Provenance())
    (tmp_path / "base.onnx").write_bytes(base.read_bytes())
    path = place(tmp_path / "model.place", tmp_path / "base.onnx", old, new, rank)
    enhanced = [Enhancer(Model.load(file)).enhance(speech(1.0), 16000) for file in (path, tmp_path / "adapted.onnx")]
    np.testing.assert_allclose(*enhanced, atol=2e-5)


def test_a_model_that_was_not_exported_from_the_checkpoint_is_refused(tmp_path):
    old = load_checkpoint(CHECKPOINTS["default"])[0]
    with torch.no_grad():
        old.mask.network.norm.bias.add_(1.0)
    new = load_checkpoint(CHECKPOINTS["default"])[0]
    with pytest.raises(ModelError, match="has other weights"):
        place(tmp_path / "model.place", MODELS["default"], old, new, 4)
    assert not list(tmp_path.iterdir())
