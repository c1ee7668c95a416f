"""Small corpora of made-up sound."""

import numpy as np
from tests.data.synthetic import RATE, write

from sottovoce.data.corpora.manifest import scan

UTTERANCE_SECONDS = 1.2
NOISE_SECONDS = 8.0


def babble(seconds, rng, sample_rate=RATE):
    """Noise with the rhythm of syllables: it resembles nothing but itself, whatever the shift."""
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    rhythm = 0.55 + 0.45 * np.sin(2 * np.pi * 4 * time)
    return (0.05 * rhythm * rng.standard_normal(time.size)).astype(np.float32)


def response(seconds, rng, sample_rate=RATE):
    """A measured response: some delay, direct sound, decaying noise."""
    taps = round(seconds * sample_rate)
    tail = 0.03 * rng.standard_normal(taps) * 10 ** (-3 * np.arange(taps) / taps)
    tail[37] = 0.8
    tail[:37] = 0
    return tail.astype(np.float32)


def make_speech(folder, speakers, utterances):
    rng = np.random.default_rng(1)
    for speaker in range(speakers):
        rate = 22050 if speaker % 2 else RATE
        for number in range(utterances):
            write(folder / f"speaker{speaker:02d}" / f"{number}.wav", babble(UTTERANCE_SECONDS, rng, rate), rate)
    return scan(folder)


def make_noise(folder, kinds, seed=2):
    rng = np.random.default_rng(seed)
    for kind in range(kinds):
        noise = 0.1 * rng.standard_normal(round(NOISE_SECONDS * RATE))
        write(folder / f"kind{kind}" / "0.wav", noise.astype(np.float32))
    return scan(folder)


def make_rooms(folder, rooms, seconds=0.3):
    rng = np.random.default_rng(3)
    for room in range(rooms):
        for position in range(1 + room % 2):
            rate = 48000 if room % 2 else RATE
            write(folder / f"room{room}" / f"{position}.wav", response(seconds, rng, rate), rate)
    return scan(folder, min_seconds=0.01)
