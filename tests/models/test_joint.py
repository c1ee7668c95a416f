"""The joint system: what it must and must not do when it is used."""

import numpy as np
import pytest
import torch
from torch import nn

from sottovoce.config import find_settings, load_settings
from sottovoce.engine.metadata import ROOMS
from sottovoce.models.bands import BandBlock
from sottovoce.models.blocks import FrameConv, Past
from sottovoce.models.joint import JointAutoencoder, count_parameters, multiply_adds_per_second

from ..systems import build, small_settings, speech


@pytest.fixture(scope="module")
def default():
    return build(load_settings(find_settings("default")))


def noise(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def test_default_is_small(default):
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
    system = build(small_settings())
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


def test_a_choice_of_the_room_makes_no_difference_before_it_is_learned():
    system = build(small_settings(model={"room_choice": True}))
    waveform = torch.from_numpy(speech(0.5))[None]
    torch.testing.assert_close(system.enhance(waveform, "dry"), system.enhance(waveform, "keep"))
    for block in system.mask.modules():
        if isinstance(block, BandBlock):
            torch.nn.init.ones_(block.room.weight)
    assert not torch.allclose(system.enhance(waveform, "dry"), system.enhance(waveform, "natural"))
    spectra = system.stft.analyse(waveform)
    rooms = torch.tensor([ROOMS["dry"]])
    level = system.level(system.analyse(waveform), Past())
    translated = system.translate(system.analyse(waveform) / level, rooms=rooms).spectrum * level
    past = Past()
    past.room = rooms.unsqueeze(-1)
    torch.testing.assert_close(translated, system(spectra, past), atol=1e-5, rtol=1e-4)


def test_frames_in_pieces_give_the_same():
    system = build(small_settings())
    spectra = noise(2, 2, system.bins, 50)
    with torch.no_grad():
        whole = system(spectra, Past())
        pieces, states = [], None
        for piece in spectra.split([1, 2, 30, 17], dim=-1):
            past = Past(states)
            pieces.append(system(piece, past))
            states = past.next
    torch.testing.assert_close(torch.cat(pieces, dim=-1), whole, atol=1e-4, rtol=1e-4)


def test_single_frames_give_the_same():
    """As an exported file computes them: layers with a past, of every kind, find the frames of each signal."""
    kernel = {"widths": [12], "kernel": 3}
    choices = {"phase_features": "differences", "room_choice": True, "speech_decoder": kernel}
    system = build(small_settings(model=choices))
    spectra = noise(2, 2, system.bins, 9)
    before, after = spectra.split([4, 5], dim=-1)
    with torch.no_grad():
        past = Past()
        system(before, past)
        signals, single = Past(past.next), Past(past.next, single=(2, 5))
        expected = system(after, signals)
        found = system(after.permute(0, 3, 1, 2).reshape(10, 2, system.bins, 1), single)
    torch.testing.assert_close(found.reshape(2, 5, 2, system.bins).permute(0, 2, 3, 1), expected, atol=1e-5, rtol=1e-4)
    for state, one in zip(single.next, signals.next, strict=True):
        torch.testing.assert_close(state, one, atol=1e-5, rtol=1e-4)


def test_training_and_use_compute_the_same():
    # `translate` works on whole clips, `forward` on frames as they come.
    system = build(small_settings())
    waveform = torch.from_numpy(speech(0.3))[None]
    spectra = system.analyse(waveform)
    level = system.level(spectra, Past())
    with torch.no_grad():
        translation = system.translate(spectra / level)
        enhanced = system.stft.synthesise(translation.spectrum * level, waveform.shape[-1])
    torch.testing.assert_close(enhanced, system.enhance(waveform), atol=1e-5, rtol=1e-4)


def test_latent_noise_is_for_training_only():
    system = build(small_settings(model={"latent_noise": 1.0}))
    waveform = torch.from_numpy(speech(0.3))[None]
    first = system.enhance(waveform)
    assert first.any()
    assert torch.equal(first, system.enhance(waveform))
    # Where a generator is given, as in training, the noise is there.
    spectra = noise(1, 2, system.bins, 20)
    with torch.no_grad():
        clean = system.translate(spectra)
        noisy, again = (system.translate(spectra, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(noisy.spectrum, again.spectrum)
    assert not torch.allclose(noisy.spectrum, clean.spectrum, rtol=1e-3)


@pytest.mark.parametrize("gain", [0.01, 0.1, 10.0])
def test_loud_and_soft_recordings_are_enhanced_alike(gain):
    system = build(small_settings())
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
    assert not default.enhance(torch.zeros(1, 8000)).any()


def test_mask_output_never_exceeds_the_mixture(default):
    spectra = noise(1, 2, default.bins, 20)
    with torch.no_grad():
        enhanced = default(spectra, Past())
        audible = spectra - default.infrasound(spectra)
    excess = torch.linalg.vector_norm(enhanced, dim=1) - torch.linalg.vector_norm(audible, dim=1)
    assert excess.max() < 1e-5


def test_decoded_speech_corrects_the_phase_of_its_reference():
    system = build(small_settings())
    reference = noise(1, 2, system.bins, 20)
    with torch.no_grad():
        decoded = system.decode_speech(noise(1, 8, 20, seed=1))
        spectrum = system.spectrum_of(decoded, reference)
    size = torch.linalg.vector_norm(spectrum, dim=1)
    torch.testing.assert_close(size, decoded.amplitude ** (1 / 0.3), rtol=1e-3, atol=1e-6)
    angles = (torch.complex(parts[:, 0], parts[:, 1]).angle() for parts in (spectrum, decoded.phasors, reference))
    enhanced, correction, given = angles
    away = 1 - torch.cos(enhanced - correction - given)
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
    system = build(small_settings())
    samples = 0.1 * noise(2, 1000)
    spectra = system.stft.analyse(samples)
    torch.testing.assert_close(system.recompute(spectra, 1000), spectra, atol=1e-5, rtol=1e-4)


def test_compressed_is_a_power_of_the_amplitude():
    system = build(small_settings())
    spectra = noise(2, 2, system.bins, 5)
    expected = torch.linalg.vector_norm(spectra, dim=1) ** 0.3
    torch.testing.assert_close(system.compressed(spectra), expected)


@pytest.mark.parametrize("name", sorted(path.stem for path in find_settings("default").parent.rglob("*.yaml")))
def test_every_setting_of_conf_makes_a_system(name):
    settings = load_settings(next(find_settings("default").parent.rglob(f"{name}.yaml")))
    with torch.device("meta"):
        # Structure alone; windows of the transform are made from numpy and stay real.
        system = nn.Module.__new__(JointAutoencoder)
        JointAutoencoder.__init__(system, settings.frontend, settings.model)
    assert (system.pretask is not None) == settings.model.mask_pretask


def test_whole_signals_are_followed_through_the_latent_space():
    system = build(small_settings())
    waveform = torch.from_numpy(speech(9.0, 0.0)).unsqueeze(0)  # longer than what goes through at once
    latent, spectrum = system.follow(waveform)
    frames = system.stft.reference.frame_count(waveform.shape[-1])
    assert latent.shape == (1, system.shared.conv.conv.out_channels, frames)
    assert spectrum.shape == (1, 2, system.bins, frames)
    torch.testing.assert_close(system.stft.synthesise(spectrum, waveform.shape[-1]), system.enhance(waveform))
    # At the beginning, where nothing has passed yet, it is what the losses see.
    spectra = system.analyse(waveform[:, :16000])
    with torch.no_grad():
        seen = system.translate(spectra / system.level(spectra, Past()))
    torch.testing.assert_close(latent[..., :40], seen.latent[..., :40], atol=1e-4, rtol=1e-4)
