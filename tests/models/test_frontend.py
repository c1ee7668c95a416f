"""What encoders see: amplitudes, phasors and the running level, with finite gradients in silence."""

import numpy as np
import pytest
import torch

from sottovoce.config import FrontendSettings
from sottovoce.models.blocks import Past
from sottovoce.models.frontend import FeatureMaps, RunningLevel, TorchSTFT, amplitude, phasor, rotate, rotate_back


def feature_maps(phase, window=8, **settings):
    return FeatureMaps(FrontendSettings(phase_features=phase, **{"windows": (window,), "hop": window // 4} | settings))


def noise(*shape):
    return torch.from_numpy(np.random.default_rng(0).standard_normal(shape).astype(np.float32))


def test_amplitude_and_phasor_make_the_spectrum():
    spectrum = noise(2, 2, 5, 7)
    torch.testing.assert_close(amplitude(spectrum), torch.linalg.vector_norm(spectrum, dim=1))
    torch.testing.assert_close(torch.linalg.vector_norm(phasor(spectrum), dim=1), torch.ones(2, 5, 7))
    torch.testing.assert_close(amplitude(spectrum).unsqueeze(1) * phasor(spectrum), spectrum)


def test_phasor_of_nothing_is_one():
    unit = phasor(torch.zeros(1, 2, 3, 4))
    assert (unit[:, 0] == 1).all()
    assert (unit[:, 1] == 0).all()


@pytest.mark.parametrize("function", [amplitude, phasor, "unit", "compressed", "differences"])
@pytest.mark.parametrize("size", [0.0, 1e-20, 1e-8, 1.0])
def test_gradients_are_finite(function, size):
    spectrum = (size * noise(1, 2, 5, 4)).requires_grad_()
    (function(spectrum) if callable(function) else feature_maps(function)(spectrum, Past())).square().sum().backward()
    assert torch.isfinite(spectrum.grad).all()


def test_rotate_multiplies_complex_numbers():
    first, second = noise(2, 2, 5, 7), noise(2, 2, 5, 7).flip(0)
    product = torch.complex(first[:, 0], first[:, 1]) * torch.complex(second[:, 0], second[:, 1])
    torch.testing.assert_close(rotate(first, second), torch.stack([product.real, product.imag], dim=1))


def test_what_is_rotated_and_rotated_back_keeps_its_phase():
    first, second = noise(2, 2, 5, 7), noise(2, 2, 5, 7).flip(0)
    back = rotate_back(rotate(first, second), second)
    torch.testing.assert_close(back, first * second.square().sum(dim=1, keepdim=True))


def test_compressed_phase_fades_with_the_amplitude():
    spectrum, maps = noise(1, 2, 5, 7), feature_maps("compressed", compression=0.5)
    size, real, imaginary = maps(spectrum, Past()).chunk(3, dim=1)
    torch.testing.assert_close(torch.sqrt(real**2 + imaginary**2), size)
    torch.testing.assert_close(torch.atan2(imaginary, real), torch.atan2(spectrum[:, 1], spectrum[:, 0]))
    _, real, imaginary = maps(1e-12 * spectrum, Past()).chunk(3, dim=1)
    assert real.abs().max() < 1e-3
    assert imaginary.abs().max() < 1e-3


@pytest.mark.parametrize("hop", [64, 100])
def test_advance_of_the_phase_tells_where_in_its_bin_a_tone_stands(hop):
    place = 37.3  # in bins
    tone = torch.sin(2 * np.pi * place / 512 * torch.arange(8000) + 1.0)
    maps = feature_maps("differences", 512, hop=hop)(TorchSTFT((512,), hop).analyse(tone[None]), Past())
    _, real, imaginary, _, _ = maps.unflatten(1, (5, -1))[0, :, 36:39, 20:-20]
    turns = torch.atan2(imaginary, real) / (2 * np.pi)
    expected = (place - torch.arange(36, 39)) * hop / 512
    # A real tone's negative frequency leaks into these bins, a little.
    torch.testing.assert_close(turns, expected.unsqueeze(1).expand_as(turns), atol=1e-3, rtol=0)


@pytest.mark.parametrize("samples_late", [0, 20, -50])
def test_slope_of_the_phase_tells_when_in_its_frame_a_click_comes(samples_late):
    hop, frame = 128, 10
    clicks = torch.zeros(1, 4000)
    clicks[0, (frame + 1) * hop - 256 + samples_late] = 1.0  # the middle of that frame
    maps = feature_maps("differences", 512, hop=hop)(TorchSTFT((512,), hop).analyse(clicks), Past())
    size, _, _, real, imaginary = maps.unflatten(1, (5, -1))[0, :, :, frame]
    turns = torch.atan2(imaginary, real)[1:] / (2 * np.pi)
    torch.testing.assert_close(turns, torch.full((256,), -samples_late / 512), atol=1e-4, rtol=0)
    # No bin is below the lowest.
    assert (real[0], imaginary[0]) == (0, 0)
    torch.testing.assert_close(torch.hypot(real, imaginary)[1:], size[1:])


def test_differences_do_not_depend_on_a_phase_that_all_bins_share():
    spectrum, maps = noise(1, 2, 33, 9), feature_maps("differences", 64)
    turned = rotate(spectrum, torch.tensor([0.6, 0.8]).view(1, 2, 1, 1).expand_as(spectrum))
    torch.testing.assert_close(maps(spectrum, Past()), maps(turned, Past()))


def test_differences_of_several_windows_are_those_of_each():
    spectrum = noise(1, 2, 33 + 17, 9)
    both = feature_maps("differences", windows=(64, 32), hop=16)(spectrum, Past()).unflatten(1, (5, -1))
    for part, bins in ((spectrum[:, :, :33], slice(0, 33)), (spectrum[:, :, 33:], slice(33, 50))):
        alone = feature_maps("differences", 2 * part.shape[2] - 2, hop=16)(part, Past())
        torch.testing.assert_close(both[:, :, bins], alone.unflatten(1, (5, -1)))


@pytest.mark.parametrize("phase", ["none", "unit", "compressed", "differences"])
def test_maps_frame_by_frame_are_those_of_the_whole(phase):
    spectrum, maps = noise(2, 2, 33, 9), feature_maps(phase, 64)
    past, parts = Past(), []
    for frames in spectrum.split([1, 3, 5], dim=-1):
        parts.append(maps(frames, past))
        past = Past(past.next)
    torch.testing.assert_close(torch.cat(parts, dim=-1), maps(spectrum, Past()))
    assert parts[0].shape[1] == maps.channels


def test_constants_of_the_transform_are_no_part_of_a_checkpoint():
    assert not TorchSTFT((64, 32), 16).state_dict()


def test_level_is_the_running_root_mean_square():
    spectra = noise(2, 2, 8, 30)
    level = RunningLevel(5, 6)(spectra, Past())
    assert level.shape == (2, 1, 1, 30)
    power = spectra[:, :, :5].numpy() ** 2
    for n in (0, 3, 29):
        # Only the bins of the longest window count.
        expected = np.sqrt(power[..., max(0, n - 5) : n + 1].sum(axis=1).mean(axis=(1, 2)))
        np.testing.assert_allclose(level[:, 0, 0, n], expected, rtol=1e-5)


def test_level_of_silence_is_positive():
    assert (RunningLevel(5, 6)(torch.zeros(1, 2, 5, 9), Past()) > 0).all()


def test_level_of_white_noise_is_that_of_its_samples():
    # Windows have unit energy, so that spectra and samples have one scale.
    samples = 0.1 * noise(1, 32000)
    level = RunningLevel(257, 1000)(TorchSTFT((512,), 256).analyse(samples), Past())
    assert float(level[0, 0, 0, -2]) == pytest.approx(0.1, rel=0.03)
