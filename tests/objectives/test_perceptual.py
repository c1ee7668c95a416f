from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sottovoce.metrics.intrusive import pesq
from sottovoce.objectives.perceptual import PerceptualDisturbance

RATE = 16000
disturbance = PerceptualDisturbance(RATE)


@cache
def voice() -> NDArray[np.float32]:
    """Harmonics of a falling pitch in words of 0.3 s, with a formant that moves."""
    time = np.arange(3 * RATE) / RATE
    phase = 2 * np.pi * np.cumsum(140 + 30 * np.sin(2 * np.pi * 0.7 * time)) / RATE
    formant = 900 + 500 * np.sin(2 * np.pi * 1.3 * time)
    sound = sum(np.exp(-(((n * 140 - formant) / 900) ** 2)) * np.sin(n * phase) for n in range(1, 40))
    words = np.clip(2 * np.sin(2 * np.pi * 1.6 * time), 0, 1)
    return (0.1 * sound * words).astype(np.float32)


def noise(samples: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(samples).astype(np.float32)


def of(estimate: NDArray[np.float32], target: NDArray[np.float32]) -> float:
    return disturbance(torch.from_numpy(estimate)[None], torch.from_numpy(target)[None]).item()


def test_a_perfect_estimate_is_not_disturbed():
    assert of(voice(), voice()) < 1e-3


@settings(deadline=None)
@given(gain_db=st.floats(-30, 30))
def test_a_gain_is_no_error(gain_db):
    noisy = voice() + 0.01 * noise(3 * RATE)
    gained = (noisy * 10 ** (gain_db / 20)).astype(np.float32)
    assert of(gained, voice()) == pytest.approx(of(noisy, voice()), rel=0.01)


def test_more_noise_disturbs_more_as_in_pesq():
    levels = 0.1 * 10 ** (-np.arange(0, 50, 10) / 20)
    noisy = [(voice() + level * noise(3 * RATE)).astype(np.float32) for level in levels]
    disturbances = [of(one, voice()) for one in noisy]
    scores = [pesq(voice(), one) for one in noisy]
    assert disturbances == sorted(disturbances, reverse=True)
    assert scores == sorted(scores)


def test_soft_noise_that_was_added_disturbs_more_than_if_it_were_missing():
    noisy = (voice() + 0.002 * noise(3 * RATE)).astype(np.float32)
    assert of(noisy, voice()) > 1.2 * of(voice(), noisy)


def test_noise_below_the_threshold_of_hearing_is_not_noticed():
    soft = (voice() + 1e-6 * noise(3 * RATE)).astype(np.float32)
    assert of(soft, voice()) < 0.01


def test_a_silent_target_counts_nothing_and_gradients_are_finite():
    target = torch.from_numpy(np.stack([voice(), 0 * voice()]))
    estimate = torch.zeros_like(target).requires_grad_()
    loss = disturbance(estimate, target)
    loss.backward()
    alone = disturbance(estimate[:1], target[:1])
    assert loss.item() == pytest.approx(alone.item() / 2)
    assert torch.isfinite(estimate.grad).all()


def test_its_gradient_takes_noise_away():
    target = torch.from_numpy(voice())[None]
    estimate = (target + 0.02 * torch.from_numpy(noise(3 * RATE))).requires_grad_()
    optimiser = torch.optim.Adam([estimate], lr=2e-3)
    before = disturbance(estimate, target).item()
    for _ in range(30):
        optimiser.zero_grad()
        disturbance(estimate, target).backward()
        optimiser.step()
    assert disturbance(estimate, target).item() < 0.7 * before
