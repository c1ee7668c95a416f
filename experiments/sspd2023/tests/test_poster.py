"""The published networks: their structure, what they see, and the stages of the product that train them."""

import numpy as np
import pytest
import torch
from tests.systems import speech
from torch import nn

pytest.importorskip("lightning")

from sottovoce.models.autoencoder import ConvStack
from sottovoce.models.blocks import Past
from sottovoce.models.frontend import TorchSTFT
from sottovoce.objectives.joint import UnpairedTensors
from sottovoce.signal.stft import MultiResolutionSTFT
from sottovoce.training.module import TrainingModule
from sottovoce.training.stages import joint_stages
from sspd2023.poster import (
    BatchBlock,
    Centred,
    Equaliser,
    GatedBlock,
    PhaseMaps,
    RunningMean,
    TemporalMask,
    TemporalStack,
)
from sspd2023.settings import TemporalSettings

from .systems import build, row_settings, small_experiment

MASKED = {
    "poster": {"noise_code": 3, "mask": {"width": 6, "dilations": [1, 4]}},
    "joint_weights": {"simulated_magnitude": 1.0},
    "training": {"data": {"simulated_clips": 2}},
}
VARIANTS = {
    "poster": {},
    "phase of the mixture": {"poster": {"phase": "mixture", "shared_layer": False}},
    "absolute phase": {"poster": {"phase": "absolute", "equalise": False}},
    "mask": MASKED,
}


def noise(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def widths(stack):
    return [(block.conv.conv.in_channels, block.conv.conv.out_channels) for block in stack.blocks]


@pytest.fixture(scope="module")
def poster():
    return build(row_settings("poster"))


@pytest.fixture(params=VARIANTS)
def small(request):
    return build(small_experiment(**VARIANTS[request.param]))


def test_it_has_the_published_layers(poster):
    maps = 3 * (513 + 257 + 129 + 65)
    assert widths(poster.speech_encoder.stack.network) == [(maps, 512), (512, 256), (256, 128), (128, 64)]
    assert widths(poster.mixture_encoder.stack.network) == [
        (maps, 512),
        (512, 400),
        (400, 300),
        (300, 200),
        (200, 100),
        (100, 64),
    ]
    # The latent is what the stacks end in, and one layer of both follows.
    assert poster.speech_encoder.latent is None
    assert poster.mixture_encoder.latent is None
    assert (poster.shared.conv.conv.in_channels, poster.shared.conv.conv.out_channels) == (64, 64)
    # Decoders mirror their encoders; the two of speech are independent.
    for decoder, outputs in ((poster.amplitude_decoder, 513), (poster.phase_decoder, 2 * 513)):
        assert widths(decoder.network.stack) == [(64, 128), (128, 256), (256, 512)]
        output = decoder.network.output.conv
        assert (output.in_channels, output.out_channels) == (512, outputs)
    mixture_decoder = poster.mixture_decoder.network
    assert widths(mixture_decoder.stack) == [(64, 100), (100, 200), (200, 300), (300, 400), (400, 512)]
    assert mixture_decoder.output.conv.out_channels == 513
    assert not set(poster.amplitude_decoder.parameters()) & set(poster.phase_decoder.parameters())
    for part in (poster.noise_code, poster.mask):
        assert not list(part.parameters())


def test_it_has_the_published_kernels_norms_and_activations(poster):
    stacks = [module for module in poster.modules() if isinstance(module, ConvStack)]
    assert len(stacks) == 5
    for block in (block for stack in stacks for block in stack.blocks):
        assert isinstance(block, BatchBlock)
        assert block.conv.conv.kernel_size == (7,)
        assert block.conv.conv.stride == (1,)
        assert isinstance(block.norm, nn.BatchNorm1d)
    for encoder in (poster.speech_encoder, poster.mixture_encoder):
        assert all(block.equaliser is not None for block in encoder.stack.network.blocks)
    assert poster.stft.reference.windows == (1024, 512, 256, 128)
    assert poster.stft.reference.hop == 32


def test_a_block_ends_in_a_softplus():
    block = BatchBlock(4, 6, 3).eval()
    frames = noise(2, 4, 9)
    with torch.no_grad():
        linear = block.norm(block.conv(frames, Past()))
        torch.testing.assert_close(block(frames, Past()), torch.log1p(linear.exp()))


def test_networks_see_as_much_future_as_past():
    change = {"equalise": False, "noise_code": 2, "mask": {"width": 6, "dilations": [1, 2, 4]}}
    system = build(small_experiment(poster=change))
    mask = system.mask.network
    cases = {
        # Layers times the frames that each sees ahead.
        "E_S": (system.speech_encoder.stack, 150, 2 * 1),
        "E_M": (system.mixture_encoder.stack, 150, 3 * 2),
        "D_A": (system.amplitude_decoder, 8, 2 * 1),
        "D_P": (system.phase_decoder, 8, 2 * 1),
        "D_M": (system.mixture_decoder, 10, 2 * 1),
        "mask": (mask.stack, 8 + 33, 1 + 2 + 4),
    }
    for name, (network, inputs, ahead) in cases.items():
        still = noise(1, inputs, 101)
        moved = still.clone()
        moved[..., 50] += 1
        with torch.no_grad():
            change = (network(moved, Past()) - network(still, Past())).abs().flatten(0, -2).amax(dim=0)
        reached = torch.nonzero(change > 0)[:, 0]
        assert (int(reached[0]) - 50, int(reached[-1]) - 50) == (-ahead, ahead), name


def test_a_centred_network_pads_its_input_alone():
    network = ConvStack(4, row_settings("poster_cpu").poster.speech_decoder.model_copy(update={"widths": (6, 5)}))
    centred, frames = Centred(network, 2), noise(1, 4, 12)
    with torch.no_grad():
        assert centred(frames, Past()).shape == (1, 5, 12)
        # The end of a signal is silence at the input: the same as silence that was recorded.
        longer = nn.functional.pad(frames, (0, 20))
        torch.testing.assert_close(centred(longer, Past())[..., :12], centred(frames, Past()))


@pytest.mark.parametrize("horizon", [1, 2, 5, 40])
def test_running_mean_is_the_mean_of_the_frames_there_are(horizon):
    frames = noise(2, 3, 30)
    expected = np.stack(
        [frames.numpy()[..., max(0, n + 1 - horizon) : n + 1].mean(axis=-1) for n in range(30)], axis=-1
    )
    np.testing.assert_allclose(RunningMean(horizon)(frames, Past()), expected, atol=1e-6)


def test_equaliser_divides_by_the_running_mean():
    frames = noise(1, 3, 30).exp()
    expected = frames / (RunningMean(4)(frames, Past()) + 1e-3)
    torch.testing.assert_close(Equaliser(4)(frames, Past()), expected)
    # What is multiplied by a constant comes out the same.
    torch.testing.assert_close(
        Equaliser(4)(1000 * frames, Past()), Equaliser(4)(100 * frames, Past()), rtol=1e-3, atol=0
    )


def test_gated_block_adds_to_its_input():
    block = GatedBlock(4, 3, 2)
    with torch.no_grad():
        block.conv.conv.weight.zero_()
        block.conv.conv.bias.zero_()
    frames = noise(1, 4, 5)
    torch.testing.assert_close(block(frames, Past()), frames)


def test_temporal_mask_begins_near_one_and_follows_its_guide():
    settings = TemporalSettings(width=6, dilations=(1, 2))
    assert isinstance(TemporalMask(5, 9, settings).stack.network, TemporalStack)
    mask, features = TemporalMask(5, 9, settings), noise(1, 5, 7)
    with torch.no_grad():
        one, other = (mask(features, noise(1, 9, 7, seed=seed), Past()) for seed in (1, 2))
    assert one.shape == (1, 2, 9, 7)
    assert not torch.allclose(one, other)
    assert abs(float(one[:, 0].mean()) - 1.0) < 0.5
    assert abs(float(one[:, 1].mean())) < 0.5


@pytest.mark.parametrize("windows", [(512,), (1024, 512, 256, 128), (64, 32)])
def test_maps_are_amplitude_and_phase_of_all_windows(windows):
    stft, waveform = MultiResolutionSTFT(windows, 16), speech(0.2)
    spectra = stft.analyse(waveform)
    tensor = TorchSTFT(windows, 16).analyse(torch.from_numpy(waveform)[None])
    complex_spectra = spectra[0] + 1j * spectra[1]
    size, angle = np.abs(complex_spectra), np.angle(complex_spectra)
    # Torch has a floor of 1e-8 under the amplitude, which can be seen in phases of amplitudes below 1e-5.
    loud = size > 1e-5
    for phase in ("none", "unit", "compressed"):
        maps = PhaseMaps(0.5, phase)
        found = maps(tensor, Past())[0].numpy().reshape(maps.per_bin, *size.shape)
        np.testing.assert_allclose(found[0], size**0.5, atol=1e-3)
        weight = size**0.5 if phase == "compressed" else np.ones_like(size)
        for part, expected in zip(found[1:], (weight * np.cos(angle), weight * np.sin(angle)), strict=phase != "none"):
            np.testing.assert_allclose(part[loud], expected[loud], atol=1e-3)


def test_phase_of_an_empty_bin_is_zero():
    size, cosine, sine = PhaseMaps(0.3, "unit")(torch.zeros(3, 2, 5, 7), Past()).chunk(3, dim=1)
    assert (cosine == 1).all()
    assert not sine.any()
    assert size.abs().max() < 1e-2


def test_every_parameter_belongs_to_one_stage(small):
    first = {parameter for part in small.speech_parts() for parameter in part.parameters()}
    second = {parameter for part in small.mixture_parts() for parameter in part.parameters()}
    assert not first & second
    assert first | second == set(small.parameters())


def test_training_and_use_compute_the_same(small):
    # Longer than the pieces in which the level is taken.
    waveform = torch.from_numpy(speech(0.7))[None]
    spectra = small.analyse(waveform)
    level = small.level(spectra, Past())
    assert spectra.shape[-1] > 512
    with torch.no_grad():
        expected = small.stft.synthesise(small.translate(spectra / level).spectrum * level, waveform.shape[-1])
    torch.testing.assert_close(small.enhance(waveform), expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("samples", [1, 15, 16, 999])
def test_length_stays_and_silence_stays_silent(small, samples):
    assert small.enhance(0.1 * noise(2, samples)).shape == (2, samples)
    # What is decoded is bounded by the floor of the level.
    assert small.enhance(torch.zeros(1, samples)).abs().max() < 1e-3


def test_loud_and_soft_recordings_are_enhanced_the_same_way(small):
    waveform = torch.from_numpy(speech(0.5))[None]
    enhanced = small.enhance(waveform)
    error = small.enhance(10 * waveform) / 10 - enhanced
    assert error.square().mean() < 1e-4 * enhanced.square().mean()


def test_use_changes_no_statistics(small):
    before = {name: value.clone() for name, value in small.state_dict().items()}
    small.enhance(torch.from_numpy(speech(0.2))[None])
    assert all(torch.equal(value, before[name]) for name, value in small.state_dict().items())


@pytest.mark.parametrize("phase", ["mixture", "residual", "absolute"])
def test_phase_of_decoded_speech(phase):
    system = build(small_experiment(poster={"phase": phase}))
    reference = noise(1, 2, system.bins, 20)
    with torch.no_grad():
        decoded = system.decode_speech(noise(1, 8, 20, seed=1))
        spectrum = system.spectrum_of(decoded, reference)
    size = torch.linalg.vector_norm(spectrum, dim=1)
    torch.testing.assert_close(size, decoded.amplitude**2, rtol=1e-3, atol=1e-6)
    angles = [torch.complex(parts[:, 0], parts[:, 1]).angle() for parts in (spectrum, decoded.phasors, reference)]
    own, given = (angles[1] if phase != "mixture" else 0), (angles[2] if phase != "absolute" else 0)
    away = 1 - torch.cos(angles[0] - own - given)
    assert away[size > 1e-4].max() < 1e-3
    assert (size > 1e-4).float().mean() > 0.5


def test_a_mask_leaves_the_phase_decoder_out_of_use():
    decoding, masking = build(small_experiment()), build(small_experiment(**MASKED))
    assert decoding.phase_decoder in decoding.run_time_parts()
    assert masking.phase_decoder not in masking.run_time_parts()
    assert masking.mask in masking.run_time_parts()


def batch(seed=0):
    rng = np.random.default_rng(seed)
    return UnpairedTensors(
        *(torch.from_numpy(0.1 * rng.standard_normal((2, 3200)).astype(np.float32)) for _ in "smnptr"),
        simulated_rooms=torch.zeros(2, 2),
    )


def states(parts):
    return [{name: value.clone() for name, value in part.state_dict().items()} for part in parts]


def changed_parts(one, other):
    """Whether each part that has values has other ones."""
    return [any(not torch.equal(a[name], b[name]) for name in a) for a, b in zip(one, other, strict=True) if a]


def after_steps(module, count=2):
    """Take some steps; return whether speech parts and mixture parts have changed."""
    before = states(module.network.speech_parts()), states(module.network.mixture_parts())
    optimiser = module.configure_optimizers()["optimizer"]
    module.train()
    for step in range(count):
        terms = module.stage.terms(batch(step), torch.Generator().manual_seed(step))
        loss = module.stage.loss(terms)
        assert all(torch.isfinite(term) for term in terms.values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    after = states(module.network.speech_parts()), states(module.network.mixture_parts())
    return [changed_parts(*pair) for pair in zip(before, after, strict=True)]


@pytest.mark.parametrize("variant", VARIANTS)
def test_stages_train_their_parts_alone(variant):
    settings = small_experiment(**VARIANTS[variant])
    system = build(settings)
    speech_stage, joint_stage = joint_stages(system, settings)
    first, second = after_steps(TrainingModule(system, speech_stage, settings.training))
    assert all(first)
    assert not any(second)
    first, second = after_steps(TrainingModule(system, joint_stage, settings.training))
    assert not any(first)
    assert all(second)


def test_batch_statistics_would_drift_otherwise(monkeypatch):
    """The trap that the test above is for: statistics are no parameters."""
    settings = small_experiment()
    system = build(settings)
    module = TrainingModule(system, joint_stages(system, settings)[1], settings.training)
    monkeypatch.setattr(module, "train", lambda mode=True: nn.Module.train(module, mode))
    first, _ = after_steps(module, 1)
    assert any(first)


@pytest.mark.parametrize("gain", [0.0, 1e-6])
def test_gradients_in_silence_are_finite(gain):
    settings = small_experiment(speech_weights={"multi_resolution": 1.0})
    system = build(settings).train()
    silent = UnpairedTensors(*(gain * part for part in batch()))
    for stage in joint_stages(system, settings):
        stage.loss(stage.terms(silent, torch.Generator().manual_seed(0))).backward()
    gradients = [parameter.grad for parameter in system.parameters() if parameter.grad is not None]
    assert len(gradients) > 10
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
