"""The joint system: the structure that is published, and what it must and must not do when it is used."""

import numpy as np
import pytest
import torch
from torch import nn

from sottovoce.config import find_settings, load_settings
from sottovoce.models.autoencoder import ConvStack
from sottovoce.models.blocks import FrameConv, Past
from sottovoce.models.joint import JointAutoencoder, count_parameters, multiply_adds_per_second

from ..systems import SETTINGS, build, small_settings, speech

SMALL = ["default", "poster"]


def full(name):
    return build(load_settings(SETTINGS[name]))


@pytest.fixture(scope="module")
def poster():
    return full("poster")


@pytest.fixture(scope="module")
def default():
    return full("default")


def noise(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def widths(stack):
    return [(block.conv.conv.in_channels, block.conv.conv.out_channels) for block in stack.blocks]


def test_poster_has_the_published_layers(poster):
    maps = 3 * (513 + 257 + 129 + 65)
    assert widths(poster.speech_encoder.stack) == [(maps, 512), (512, 256), (256, 128), (128, 64)]
    assert widths(poster.mixture_encoder.stack) == [
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
        assert widths(decoder.stack) == [(64, 128), (128, 256), (256, 512)]
        assert (decoder.output.conv.in_channels, decoder.output.conv.out_channels) == (512, outputs)
    assert widths(poster.mixture_decoder.stack) == [(64, 100), (100, 200), (200, 300), (300, 400), (400, 512)]
    assert poster.mixture_decoder.output.conv.out_channels == 513
    assert not set(poster.amplitude_decoder.parameters()) & set(poster.phase_decoder.parameters())
    assert poster.noise_code is None
    assert poster.mask is None


def test_poster_has_the_published_kernels_norms_and_activations(poster):
    stacks = [module for module in poster.modules() if isinstance(module, ConvStack)]
    assert len(stacks) == 5
    for block in (block for stack in stacks for block in stack.blocks):
        assert block.conv.conv.kernel_size == (7,)
        assert block.conv.conv.stride == (1,)
        assert isinstance(block.norm, nn.BatchNorm1d)
        assert isinstance(block.activation, nn.Softplus)
    for encoder in (poster.speech_encoder, poster.mixture_encoder):
        assert all(block.equaliser is not None for block in encoder.stack.blocks)
    assert poster.stft.reference.windows == (1024, 512, 256, 128)
    assert poster.stft.reference.hop == 32


def test_poster_lags_by_its_centred_layers(poster):
    # Six layers of E_M and four of the decoder look three frames ahead each.
    assert poster.delay_frames == (6 + 4) * 3


def test_default_is_small_and_has_no_delay(default):
    assert default.delay_frames == 0
    parts = default.run_time_parts()
    assert count_parameters(parts) <= 1_000_000
    assert multiply_adds_per_second(parts, 16000 / 256) <= 80_000_000


def test_counts_are_those_of_the_layers_that_run():
    system = build(small_settings())
    part = nn.ModuleList([FrameConv(8, 4, 3), FrameConv(4, 2)])
    assert count_parameters([part]) == (8 * 3 + 1) * 4 + (4 + 1) * 2
    assert multiply_adds_per_second([part], 10) == 10 * (8 * 3 * 4 + 4 * 2)
    # What training alone needs is not counted.
    parts = system.run_time_parts()
    assert system.speech_encoder not in parts
    assert system.mixture_decoder not in parts
    assert system.phase_decoder not in parts


def test_every_parameter_belongs_to_one_stage():
    for name in SMALL:
        system = build(small_settings(name))
        first = {parameter for part in system.speech_parts() for parameter in part.parameters()}
        second = {parameter for part in system.mixture_parts() for parameter in part.parameters()}
        assert not first & second
        assert first | second == set(system.parameters())


def test_default_does_not_see_the_future(default):
    spectra = noise(1, 2, default.bins, 40)
    other = torch.cat([spectra[..., :25], noise(1, 2, default.bins, 15, seed=1)], dim=-1)
    with torch.no_grad():
        first, second = default(spectra, Past()), default(other, Past())
    torch.testing.assert_close(first[..., :25], second[..., :25])
    assert not torch.allclose(first[..., 25], second[..., 25])


def test_centred_system_sees_its_delay_and_no_more():
    system = build(small_settings("poster"))
    spectra, delay = noise(1, 2, 50, 60), system.delay_frames
    assert delay == 3 * 2 + 2 * 1
    moved = spectra.clone()
    moved[..., 40:] += 1
    with torch.no_grad():
        first, second = (system(frames, Past())[..., delay:] for frames in (spectra, moved))
    torch.testing.assert_close(first[..., : 40 - delay], second[..., : 40 - delay])
    assert not torch.allclose(first[..., 40 - delay], second[..., 40 - delay])


@pytest.mark.parametrize("name", SMALL)
def test_frames_in_pieces_give_the_same(name):
    system = build(small_settings(name))
    spectra = noise(2, 2, sum(system.stft.reference.bins), 50)
    with torch.no_grad():
        whole = system(spectra, Past())
        pieces, states = [], None
        for piece in spectra.split([1, 2, 30, 17], dim=-1):
            past = Past(states)
            pieces.append(system(piece, past))
            states = past.next
    torch.testing.assert_close(torch.cat(pieces, dim=-1), whole, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", SMALL)
def test_training_and_use_compute_the_same(name):
    # `translate` works on whole clips with everything aligned, `forward` on frames as they come.
    system = build(small_settings(name))
    waveform = torch.from_numpy(speech(0.3))[None]
    spectra = system.analyse(waveform)
    level = system.level(spectra, Past())
    with torch.no_grad():
        translation = system.translate(spectra / level)
        enhanced = system.stft.synthesise(translation.spectrum * level, waveform.shape[-1])
    torch.testing.assert_close(enhanced, system.enhance(waveform), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", SMALL)
def test_parts_of_a_translation_are_aligned(name):
    # Each part of the translation is what the aligned networks give one by one.
    system = build(small_settings(name))
    spectra = noise(1, 2, sum(system.stft.reference.bins), 40)
    with torch.no_grad():
        translation = system.translate(spectra)
        decoded = system.decode_speech(translation.latent)
    assert translation.latent.shape == (1, 8, 40)
    inner = slice(system.amplitude_decoder.delay, 40 - system.amplitude_decoder.delay)
    torch.testing.assert_close(decoded.amplitude[..., inner], translation.decoded.amplitude[..., inner])
    if name == "poster":
        torch.testing.assert_close(decoded.phasors[..., inner], translation.decoded.phasors[..., inner])
        spectrum = system.spectrum_of(decoded, spectra[:, :, : system.bins])
        torch.testing.assert_close(spectrum[..., inner], translation.spectrum[..., inner], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", SMALL)
def test_latent_noise_is_for_training_only(name):
    system = build(small_settings(name, model={"latent_noise": 1.0}))
    waveform = torch.from_numpy(speech(0.3))[None]
    first = system.enhance(waveform)
    assert first.any()
    assert torch.equal(first, system.enhance(waveform))
    # Where a generator is given, as in training, the noise is there.
    spectra = noise(1, 2, sum(system.stft.reference.bins), 20)
    with torch.no_grad():
        clean = system.translate(spectra)
        noisy, again = (system.translate(spectra, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(noisy.spectrum, again.spectrum)
    assert not torch.allclose(noisy.spectrum, clean.spectrum, rtol=1e-3)


def test_use_changes_no_statistics():
    system = build(small_settings("poster"))
    before = {name: value.clone() for name, value in system.state_dict().items()}
    system.enhance(torch.from_numpy(speech(0.3))[None])
    assert all(torch.equal(value, before[name]) for name, value in system.state_dict().items())


@pytest.mark.parametrize("gain", [0.01, 0.1, 10.0])
@pytest.mark.parametrize("name", SMALL)
def test_loud_and_soft_recordings_are_enhanced_alike(name, gain):
    system = build(small_settings(name))
    waveform = torch.from_numpy(speech(1.0))[None]
    enhanced = system.enhance(waveform)
    error = system.enhance(gain * waveform) / gain - enhanced
    # The floor under the level, which silence needs, shows in the softest parts.
    assert error.square().mean() < 1e-4 * enhanced.square().mean()


def test_default_is_invariant_to_the_level(default):
    waveform = torch.from_numpy(speech(2.0))[None]
    enhanced = default.enhance(waveform)
    for gain in (0.01, 10.0):
        error = default.enhance(gain * waveform) / gain - enhanced
        assert error.square().mean() < 1e-4 * enhanced.square().mean()


@pytest.mark.parametrize("samples", [1, 511, 512, 5000])
def test_length_stays(default, samples):
    assert default.enhance(0.1 * noise(2, samples)).shape == (2, samples)


def test_silence_stays_silent(default):
    # A mask leaves nothing where nothing is; a system that decodes speech is bounded by the floor of its level.
    assert not default.enhance(torch.zeros(1, 8000)).any()
    for phase in ("mixture", "residual", "absolute"):
        system = build(small_settings("poster", model={"phase": phase}))
        assert system.enhance(torch.zeros(1, 2000)).abs().max() < 1e-3


def test_mask_output_never_exceeds_the_mixture(default):
    spectra = noise(1, 2, default.bins, 20)
    with torch.no_grad():
        enhanced = default(spectra, Past())
        audible = spectra - default.infrasound(spectra)
    excess = torch.linalg.vector_norm(enhanced, dim=1) - torch.linalg.vector_norm(audible, dim=1)
    assert excess.max() < 1e-5


@pytest.mark.parametrize("phase", ["mixture", "residual", "absolute"])
def test_phase_of_decoded_speech(phase):
    system = build(small_settings("poster", model={"phase": phase}))
    reference = noise(1, 2, system.bins, 20)
    with torch.no_grad():
        decoded = system.decode_speech(noise(1, 8, 20, seed=1))
        spectrum = system.spectrum_of(decoded, reference)
    size = torch.linalg.vector_norm(spectrum, dim=1)
    torch.testing.assert_close(size, decoded.amplitude**2, rtol=1e-3, atol=1e-6)

    def complex_of(parts):
        return torch.complex(parts[:, 0], parts[:, 1])

    given = complex_of(reference).angle()
    if phase == "mixture":
        assert decoded.phasors is None
        expected = given
    else:
        own = complex_of(decoded.phasors).angle()
        expected = own + given if phase == "residual" else own
    away = 1 - torch.cos(complex_of(spectrum).angle() - expected)
    assert away[size > 1e-4].max() < 1e-3
    assert (size > 1e-4).float().mean() > 0.5


def test_noise_code_is_seen_by_the_mixture_decoder_alone():
    system = build(small_settings())
    spectra = noise(1, 2, system.bins, 20)
    with torch.no_grad():
        before = system.translate(spectra)
        rebuilt = system.decode_mixture(before.latent, before.noise_code)
        for parameter in system.noise_code.parameters():
            parameter.add_(1)
        after = system.translate(spectra)
    torch.testing.assert_close(before.spectrum, after.spectrum)
    assert before.noise_code.shape == (1, 3, 20)
    assert not torch.allclose(system.decode_mixture(after.latent, after.noise_code), rebuilt)


def test_recompute_gives_back_the_spectra_of_a_signal():
    system = build(small_settings("poster"))
    samples = 0.1 * noise(2, 1000)
    spectra = system.stft.analyse(samples)
    torch.testing.assert_close(system.recompute(spectra[:, :, : system.bins], 1000), spectra, atol=1e-5, rtol=1e-4)


def test_compressed_is_the_amplitude_of_the_longest_window():
    system = build(small_settings("poster"))
    spectra = noise(2, 2, sum(system.stft.reference.bins), 5)
    expected = torch.linalg.vector_norm(spectra[:, :, :33], dim=1) ** 0.5
    torch.testing.assert_close(system.compressed(spectra), expected)


@pytest.mark.parametrize("name", sorted(path.stem for path in find_settings("default").parent.rglob("*.yaml")))
def test_every_setting_of_conf_makes_a_system(name):
    settings = load_settings(next(find_settings("default").parent.rglob(f"{name}.yaml")))
    with torch.device("meta"):
        # Structure alone; windows of the transform are made from numpy and stay real.
        system = nn.Module.__new__(JointAutoencoder)
        JointAutoencoder.__init__(system, settings.frontend, settings.model)
    assert (system.shared is not None) == settings.model.shared_layer
    assert (system.mask is not None) == (settings.model.mask is not None)
    assert (system.phase_decoder is not None) == (settings.model.phase != "mixture")
    assert (system.delay_frames == 0) == settings.model.causal
