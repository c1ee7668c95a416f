"""Sounds that stand in for recordings."""

import numpy as np

from sottovoce.signal import audio

RATE = 16000


def tone(seconds, frequency_hz, rng, sample_rate=RATE):
    """A hum with the rhythm of syllables: enough of a voice to have a level."""
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    hum = sum(np.sin(2 * np.pi * frequency_hz * k * time + rng.uniform(0, 6)) / k for k in range(1, 6))
    return (0.1 * hum * (0.55 + 0.45 * np.sin(2 * np.pi * 4 * time))).astype(np.float32)


def write(path, waveform, sample_rate=RATE):
    path.parent.mkdir(parents=True, exist_ok=True)
    with audio.Writer(path, sample_rate, 1) as writer:
        writer.write(waveform[np.newaxis])
