"""Loss terms: 0 where everything is right, larger where more is wrong, with finite gradients in silence."""

import math

import numpy as np
import pytest
import torch

from sottovoce.models.frontend import TorchSTFT, phasor
from sottovoce.objectives.latent import latent_distance, prior
from sottovoce.objectives.phase import consistency, phase_error
from sottovoce.objectives.spectral import complex_reconstruction, multi_resolution, reconstruction, silence

from ..systems import speech

RESOLUTIONS = [TorchSTFT((window,), window // 4) for window in (256, 64)]


def noise(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def unit(degrees):
    """Phasor `(1, 2, 1, 1)` of an angle."""
    return torch.tensor([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]).reshape(1, 2, 1, 1)


# name: (term of an estimate and a target, shape of both)
DISTANCES = {
    "reconstruction": (reconstruction, (2, 9, 5)),
    "complex_reconstruction": (lambda a, b: complex_reconstruction(a, b, 0.3), (2, 2, 9, 5)),
    "latent_distance": (latent_distance, (2, 8, 5)),
    "multi_resolution": (lambda a, b: multi_resolution(a, b, RESOLUTIONS, 0.5), (2, 500)),
    "phase_error": (lambda a, b: phase_error(phasor(a), phasor(b), torch.ones(2, 9, 5)), (2, 2, 9, 5)),
    "consistency": (consistency, (2, 2, 9, 5)),
}


@pytest.mark.parametrize("name", DISTANCES)
def test_distance_is_zero_at_equality_and_grows(name):
    term, shape = DISTANCES[name]
    target, away = noise(*shape), noise(*shape, seed=1)
    assert float(term(target, target)) == pytest.approx(0, abs=1e-6)
    values = [float(term(target + step * away, target)) for step in (0.01, 0.1, 0.5)]
    assert 1e-6 < values[0] < values[1] < values[2]


@pytest.mark.parametrize("term", [prior, lambda latent: silence(latent.unsqueeze(1).expand(-1, 2, -1, -1))])
def test_size_is_zero_at_zero_and_grows(term):
    latent = noise(2, 8, 5)
    assert term(0 * latent) == 0
    assert 0 < term(0.1 * latent) < term(latent)


@pytest.mark.parametrize("name", DISTANCES)
@pytest.mark.parametrize("size", [0.0, 1e-8])
def test_gradients_in_silence_are_finite(name, size):
    term, shape = DISTANCES[name]
    estimate = (size * noise(*shape)).requires_grad_()
    for target in (torch.zeros(shape), noise(*shape, seed=1)):
        (gradient,) = torch.autograd.grad(term(estimate, target), estimate)
        assert torch.isfinite(gradient).all()


def test_terms_are_means_as_they_are_written():
    estimate, target = torch.full((2, 9, 5), 3.0), torch.full((2, 9, 5), 1.0)
    assert float(reconstruction(estimate, target)) == pytest.approx(4)
    assert float(latent_distance(estimate, target)) == pytest.approx(4)
    assert float(prior(estimate)) == pytest.approx(9)
    spectrum = torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1).expand(2, 2, 9, 5)
    assert float(silence(spectrum)) == pytest.approx(25)
    assert float(consistency(spectrum, 0 * spectrum)) == pytest.approx(25)
    # |S| = 5 compressed to sqrt(5); against silence that is the error, against the opposite phase twice that.
    assert float(complex_reconstruction(spectrum, 0 * spectrum, 0.5)) == pytest.approx(5, rel=1e-3)
    assert float(complex_reconstruction(spectrum, -spectrum, 0.5)) == pytest.approx(20, rel=1e-3)


def test_phase_error_wraps():
    weight = torch.ones(1, 1, 1)
    across = float(phase_error(unit(359), unit(1), weight))
    assert across == pytest.approx(1 - math.cos(math.radians(2)), abs=1e-6)
    assert across == pytest.approx(float(phase_error(unit(10), unit(12), weight)), abs=1e-6)
    assert across < 0.001 < float(phase_error(unit(0), unit(90), weight))
    assert float(phase_error(unit(0), unit(180), weight)) == pytest.approx(2)


def test_phase_error_counts_where_there_is_energy():
    right, wrong = unit(0).expand(1, 2, 2, 1), torch.cat([unit(0), unit(180)], dim=2)
    assert float(phase_error(wrong, right, torch.tensor([[[5.0], [0.0]]]))) == pytest.approx(0, abs=1e-6)
    assert float(phase_error(wrong, right, torch.tensor([[[0.0], [5.0]]]))) == pytest.approx(5)


def test_consistency_is_zero_for_the_spectrum_of_a_signal_only():
    stft = TorchSTFT((256,), 64)
    spectrum = stft.analyse(torch.from_numpy(speech(0.25))[None])
    samples = 4000

    def inconsistency(candidate):
        return float(consistency(candidate, stft.analyse(stft.synthesise(candidate, samples))))

    power = float(spectrum.square().sum(dim=1).mean())
    assert inconsistency(spectrum) < 1e-8 * power
    # The same amplitudes with the phases of another signal belong to no signal.
    other = phasor(stft.analyse(noise(1, samples)))
    size = spectrum.square().sum(dim=1, keepdim=True).sqrt()
    assert inconsistency(size * other) > 0.05 * power


def test_multi_resolution_sees_amplitudes_in_every_window():
    target = torch.from_numpy(speech(0.25))[None]
    each = [multi_resolution(0.5 * target, target, [resolution], 0.5) for resolution in RESOLUTIONS]
    for value, resolution in zip(each, RESOLUTIONS, strict=True):
        # (sqrt(A / 2) - sqrt(A))^2 = (1 - sqrt(1 / 2))^2 A
        size = torch.linalg.vector_norm(resolution.analyse(target), dim=1)
        assert float(value) == pytest.approx((1 - math.sqrt(0.5)) ** 2 * float(size.mean()), rel=1e-3)
    both = multi_resolution(0.5 * target, target, RESOLUTIONS, 0.5)
    torch.testing.assert_close(both, sum(each))
    # The sign of a signal is none of its business.
    assert float(multi_resolution(-target, target, RESOLUTIONS, 0.5)) == pytest.approx(0, abs=1e-9)
