"""Batches of small corpora."""

import numpy as np

from sottovoce.config import DataSettings
from sottovoce.data.corpora.harvest import NoiseStretch
from sottovoce.data.corpora.manifest import scan
from sottovoce.data.sampling import UnpairedClips

from ..systems import changed
from .synthetic import RATE, tone, write

SETTINGS = {
    "clip_seconds": 1.5,
    "speech_clips": 3,
    "mixture_clips": 3,
    "noise_clips": 2,
    "simulated_clips": 3,
    "simulation": {"snr_db": (0.0, 10.0), "room": {"share": 0.0}},
}


def recordings(folder, seed, seconds=4.0):
    """Noisy recordings whose last second is noise alone."""
    rng = np.random.default_rng(seed)
    for number in range(3):
        waveform = tone(seconds, rng.uniform(100, 250), rng)
        waveform[-RATE:] = 0
        write(folder / f"{number}.wav", waveform + (0.02 * rng.standard_normal(waveform.size)).astype(np.float32))
    manifest = scan(folder)
    return manifest, [NoiseStretch(r, r.frames - RATE, RATE) for r in manifest.recordings]


def drawn(speech, mixtures, *, seed=1, rooms=(), simulation=None, **changes):
    manifest, stretches = mixtures
    return UnpairedClips(
        speech,
        manifest,
        stretches,
        rooms=rooms,
        settings=DataSettings(**changed(SETTINGS, {**changes, "simulation": simulation or {}})),
        sample_rate=RATE,
        seed=seed,
    )


def powers_db(clips, *bands_hz):
    """Mean power of a clip's bins in each band, in dB."""
    power = np.square(np.abs(np.fft.rfft(clips * np.hanning(clips.shape[-1]))))
    hz = np.fft.rfftfreq(clips.shape[-1], 1 / RATE)
    return [10 * np.log10(power[..., (low <= hz) & (hz < high)].mean() + 1e-20) for low, high in bands_hz]
