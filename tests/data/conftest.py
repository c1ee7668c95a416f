"""Small corpora of synthetic sound."""

import numpy as np
import pytest

from sottovoce.data.corpora.manifest import scan

from .drawn import recordings
from .synthetic import RATE, tone, write


@pytest.fixture
def speech_folder(tmp_path):
    """Three speakers with two utterances each, one of them at 22.05 kHz."""
    rng = np.random.default_rng(1)
    for speaker, frequency_hz in (("anna", 210), ("bert", 110), ("carl", 140)):
        for number in range(2):
            rate = 22050 if speaker == "carl" else RATE
            seconds = 1.0 + 0.4 * number
            write(tmp_path / "speech" / speaker / f"{number}.wav", tone(seconds, frequency_hz, rng, rate), rate)
    return tmp_path / "speech"


@pytest.fixture
def noise_folder(tmp_path):
    """Two kinds of noise: one longer, one shorter than the speech."""
    rng = np.random.default_rng(2)
    write(tmp_path / "noise" / "rain" / "long.wav", (0.1 * rng.standard_normal(5 * RATE)).astype(np.float32))
    write(tmp_path / "noise" / "drops" / "short.wav", (0.1 * rng.standard_normal(RATE // 2)).astype(np.float32))
    return tmp_path / "noise"


@pytest.fixture
def speech(speech_folder):
    return scan(speech_folder)


@pytest.fixture
def mixtures(tmp_path):
    return recordings(tmp_path / "mixtures", 10)
