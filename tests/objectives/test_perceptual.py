"""The loss that hears: what disturbs, how much, and that it goes with PESQ."""

import math

import numpy as np
import pytest
import torch

from sottovoce.objectives.perceptual import LoudnessDisturbance

RATE = 16000
disturbance = LoudnessDisturbance(RATE)


def voice(seconds=2.0, seed=0):
    """Harmonics whose strength rises and falls."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE)) / RATE
    envelope = np.clip(np.sin(2 * np.pi * 3 * t), 0, None)
    return 0.1 * envelope * sum(rng.uniform(0.2, 1) / k * np.sin(2 * np.pi * 120 * k * t) for k in range(1, 25))


def tensor(waveform):
    return torch.from_numpy(np.asarray(waveform, np.float32)).unsqueeze(0)


def finite_gradient(estimate):
    return estimate.grad is not None and bool(torch.isfinite(estimate.grad).all())


def test_the_same_does_not_disturb():
    speech = tensor(voice())
    found = disturbance.disturbances(speech, speech)
    assert found.asymmetric.abs().max() == 0.0
    assert found.symmetric.max() < 0.05


def test_more_noise_disturbs_more():
    speech = voice()
    noise = np.random.default_rng(1).standard_normal(speech.size)
    values = [float(disturbance(tensor(speech + gain * noise), tensor(speech))) for gain in (0.0003, 0.003, 0.03, 0.3)]
    assert values == sorted(values)
    assert values[0] < 0.5 * values[-1]


def test_noise_annoys_more_than_what_is_missing():
    speech = voice()
    low, high = (0.7 * speech, speech + 0.02 * np.random.default_rng(1).standard_normal(speech.size))
    missing, added = (disturbance.disturbances(tensor(s), tensor(speech)) for s in (low, high))
    assert float(missing.asymmetric.max()) == 0.0
    assert float(added.asymmetric.mean()) > 1.0


@pytest.mark.parametrize("gain", [0.1, 1.0, 10.0])
def test_the_level_of_both_does_not_matter(gain):
    speech = voice()
    noisy = speech + 0.01 * np.random.default_rng(1).standard_normal(speech.size)
    expected = float(disturbance(tensor(noisy), tensor(speech)))
    assert float(disturbance(tensor(gain * noisy), tensor(gain * speech))) == pytest.approx(expected, rel=0.02)


def test_values_are_bounded_and_gradients_finite():
    speech = tensor(voice())
    for scale in (0.0, 1e-6, 1.0, 100.0):
        estimate = (
            scale * torch.randn(1, speech.shape[1], generator=torch.Generator().manual_seed(0))
        ).requires_grad_()
        value = disturbance(estimate, speech)
        value.backward()
        assert finite_gradient(estimate)
        assert 0.0 <= float(value.detach()) <= 45 * (0.1 + 0.0309) + 1e-4


def test_silence_as_target_is_finite():
    estimate = tensor(voice()).requires_grad_()
    value = disturbance(estimate, torch.zeros(1, estimate.shape[1]))
    value.backward()
    assert math.isfinite(float(value.detach()))
    assert finite_gradient(estimate)


def test_following_the_gradient_removes_noise():
    speech = tensor(voice(0.5))
    noisy = speech + 0.01 * torch.randn(speech.shape, generator=torch.Generator().manual_seed(0))
    estimate = noisy.clone().requires_grad_()
    first = float(disturbance(noisy, speech))
    optimiser = torch.optim.Adam([estimate], lr=1e-3)
    for _ in range(30):
        optimiser.zero_grad()
        disturbance(estimate, speech).backward()
        optimiser.step()
    assert float(disturbance(estimate.detach(), speech)) < 0.8 * first
    assert (estimate - speech).square().mean() < (noisy - speech).square().mean()


def test_it_goes_with_pesq():
    intrusive = pytest.importorskip("sottovoce.metrics.intrusive")
    pytest.importorskip("pesq")
    speech = voice(4.0)
    values, scores = [], []
    for seed, gain in enumerate((0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.03)):
        noisy = speech + gain * np.random.default_rng(seed).standard_normal(speech.size)
        values.append(float(disturbance(tensor(noisy), tensor(speech))))
        scores.append(intrusive.pesq(speech.astype(np.float32), noisy.astype(np.float32), band="wb"))
    assert np.argsort(values).tolist() == np.argsort(scores)[::-1].tolist()
