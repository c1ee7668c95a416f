"""What encoders see: amplitudes, phasors and the running level, with finite gradients in silence."""

import numpy as np
import pytest
import torch

from sottovoce.models.blocks import Past
from sottovoce.models.frontend import FeatureMaps, RunningLevel, TorchSTFT, amplitude, phasor, rotate


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


@pytest.mark.parametrize(
    "function", [amplitude, phasor, FeatureMaps(3, 0.3, "unit"), FeatureMaps(3, 0.3, "compressed")]
)
@pytest.mark.parametrize("size", [0.0, 1e-20, 1e-8, 1.0])
def test_gradients_are_finite(function, size):
    spectrum = (size * noise(1, 2, 3, 4)).requires_grad_()
    function(spectrum).square().sum().backward()
    assert torch.isfinite(spectrum.grad).all()


def test_rotate_multiplies_complex_numbers():
    first, second = noise(2, 2, 5, 7), noise(2, 2, 5, 7).flip(0)
    product = torch.complex(first[:, 0], first[:, 1]) * torch.complex(second[:, 0], second[:, 1])
    torch.testing.assert_close(rotate(first, second), torch.stack([product.real, product.imag], dim=1))


def test_compressed_phase_fades_with_the_amplitude():
    spectrum = noise(1, 2, 5, 7)
    size, real, imaginary = FeatureMaps(5, 0.5, "compressed")(spectrum).chunk(3, dim=1)
    torch.testing.assert_close(torch.sqrt(real**2 + imaginary**2), size)
    torch.testing.assert_close(torch.atan2(imaginary, real), torch.atan2(spectrum[:, 1], spectrum[:, 0]))
    _, real, imaginary = FeatureMaps(5, 0.5, "compressed")(1e-12 * spectrum).chunk(3, dim=1)
    assert real.abs().max() < 1e-3
    assert imaginary.abs().max() < 1e-3


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
