"""The network that is attacked."""

import numpy as np
import pytest
import torch

from sspd2023.detection.speakers import SpeakerNetwork, train_speakers

RATE = 16000
SAMPLES = RATE // 4


@pytest.fixture(scope="module")
def tracks():
    """Two voices that differ in pitch."""
    time = np.arange(RATE) / RATE
    return [sum(np.sin(2 * np.pi * n * pitch * time) for n in range(1, 10)).astype(np.float32) for pitch in (110, 250)]


def test_two_voices_are_told_apart(tracks):
    network = train_speakers(tracks, SAMPLES, RATE, steps=10, seed=1)
    clips = torch.from_numpy(np.stack([track[-SAMPLES:] for track in tracks]))
    assert network(clips).argmax(dim=1).tolist() == [0, 1]


def test_the_level_does_not_matter(tracks):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = SpeakerNetwork(2, RATE).eval()
    clips = torch.from_numpy(np.stack([track[:SAMPLES] for track in tracks]))
    torch.testing.assert_close(network(0.01 * clips), network(clips), rtol=1e-3, atol=1e-3)
