"""Where somebody speaks in a recording and where nobody does, from the recording alone: no labels, no trained model.

Speech betrays itself by voicing. The spectrum of each frame is divided by the recording's own floor, so that a steady
noise counts for nothing however loud it is, and the autocorrelation of what remains has a peak at the pitch period
where a voice is. Between two voiced frames of a running sentence pass a few tenths of a second; a stretch that is much
longer without one, in a recording whose voice is clear elsewhere, holds no speech.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FRAME_SECONDS = 0.01
"""Distance of the frames on which voice activity is measured."""

_WINDOW_SECONDS = 0.04
_PITCH_HZ = (70.0, 400.0)
_HARMONICS_HZ = (80.0, 1500.0)  # Harmonics above are weak, and their jitter hides the period.
_SPEECH_HZ = (150.0, 5000.0)
_BANDS = 16
_FLOOR_PERCENTILE = 20.0
_SMOOTHING_FRAMES = 5

# Tuned on simulated field recordings at -5 to 15 dB for little speech left rather than for much noise found.
_VOICED = 0.55
_CLEARLY_VOICED, _CLEAR_EXCESS_DB = 0.85, 3.0
_CLEAR_SHARE = 0.08  # Of a recording's frames; with fewer, its noise hides its voice.
_MASKING_DB = -3.0  # Noise that is nearer than this to the level of clear voice could hide a voice.
_GUARD_SECONDS = 0.25  # Speech starts and ends unvoiced: a fricative before, reverberation behind.


class VoiceActivity(NamedTuple):
    """Measures of speech per frame of 10 ms; frame n is centred on sample `n * hop + window // 2`.

    Attributes:
        voicing: Normalised autocorrelation at the best pitch period, from about 0.4 (noise) to 1 (a clear voice),
            `(frames,)`.
        excess_db: Level above the recording's own floor, mean over bands, in dB, `(frames,)`.
        hop: Distance of frames in samples.
        window: Length of a frame in samples.
    """

    voicing: NDArray[np.float32]
    excess_db: NDArray[np.float32]
    hop: int
    window: int


def voice_activity(waveform: NDArray[np.floating], sample_rate: int) -> VoiceActivity:
    """Measure voicing and level above the floor along one recording.

    Args:
        waveform: Recording, `(samples,)`, full scale ±1; some 10 s to a few minutes, so that it shows its floor.
        sample_rate: Rate in Hz, at least 4000.

    Returns:
        One value per 10 ms; no frame for a recording shorter than 40 ms.

    Source:
        P. Boersma, "Accurate short-term analysis of the fundamental frequency and the harmonics-to-noise ratio of a
        sampled sound", IFA Proceedings 17, 1993: autocorrelation divided by that of the window.
    """
    hop, window = round(FRAME_SECONDS * sample_rate), round(_WINDOW_SECONDS * sample_rate)
    if waveform.size < window:
        nothing = np.zeros(0, np.float32)
        return VoiceActivity(nothing, nothing, hop, window)
    # Long enough that the circular autocorrelation does not wrap into the lags of interest.
    size = 1 << math.ceil(math.log2(window + sample_rate / _PITCH_HZ[0]))
    top_hz = min(_SPEECH_HZ[1], sample_rate / 2)
    bins = int(top_hz * size / sample_rate) + 1
    frequency_hz = np.arange(bins) * (sample_rate / size)
    taper = np.hanning(window + 2)[1:-1].astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(waveform, window)[::hop]
    spectrum = np.fft.rfft(frames * taper, size)[:, :bins].astype(np.complex64)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    # Digital silence has no floor: a part of the mean power stands in for it.
    power += 1e-6 * power.mean(axis=0) + 1e-20
    smooth = _moving_average(power, _SMOOTHING_FRAMES)

    floor = np.percentile(smooth[::4], _FLOOR_PERCENTILE, axis=0)
    harmonics = (frequency_hz >= _HARMONICS_HZ[0]) & (frequency_hz <= _HARMONICS_HZ[1])
    whitened = np.where(harmonics, power / floor, 0.0)
    # The spectrum ends at `top_hz`, so its autocorrelation is needed at twice that rate only.
    autocorrelation = np.fft.irfft(whitened)
    of_taper = np.fft.irfft(np.square(np.abs(np.fft.rfft(taper, size)[:bins])))
    lag_rate = sample_rate * of_taper.size / size
    lags = slice(int(lag_rate / _PITCH_HZ[1]), int(lag_rate / _PITCH_HZ[0]) + 1)
    peak = (autocorrelation[:, lags] / (of_taper[lags] / of_taper[0])).max(axis=1)
    voicing = np.minimum(peak / autocorrelation[:, 0], 1.0).astype(np.float32)

    starts = np.searchsorted(frequency_hz, _mel_edges(_SPEECH_HZ[0], top_hz)[:-1])
    bands_db = 10.0 * np.log10(np.add.reduceat(smooth, starts, axis=1))
    excess_db = (bands_db - np.percentile(bands_db, _FLOOR_PERCENTILE, axis=0)).mean(axis=1).astype(np.float32)
    return VoiceActivity(voicing, excess_db, hop, window)


def noise_only_stretches(
    waveform: NDArray[np.floating], sample_rate: int, *, min_seconds: float = 0.3
) -> list[tuple[int, int]]:
    """Find where nobody speaks in one noisy recording.

    A stretch is what lies between two voiced frames without the quarter of a second next to either. It is dropped if
    its noise is so loud that it could hide a voice as loud as the recording's clear voiced frames. Precision is put
    before recall: speech that is taken for noise teaches a network to remove speech.

    Args:
        waveform: Recording, `(samples,)`, full scale ±1; some 10 s to a few minutes.
        sample_rate: Rate in Hz, at least 4000.
        min_seconds: Length of the shortest stretch that is wanted, > 0.

    Returns:
        First and past-the-last sample of each stretch, in order, disjoint. None for a recording without pauses, and
        none where no clear voice shows how speech would appear.
    """
    activity = voice_activity(waveform, sample_rate)
    count = activity.voicing.size
    clear = (activity.voicing > _CLEARLY_VOICED) & (activity.excess_db > _CLEAR_EXCESS_DB)
    if not count or clear.mean() < _CLEAR_SHARE:
        return []
    masking_db = np.median(activity.excess_db[clear]) + _MASKING_DB
    guard = round(_GUARD_SECONDS / FRAME_SECONDS)
    shortest = max(1, math.ceil(min_seconds / FRAME_SECONDS))
    unvoiced = _moving_average(activity.voicing, 3) <= _VOICED
    stretches = []
    for first, last in runs(unvoiced):
        # No guard is needed where the recording itself begins and ends.
        start = first + guard if first else first
        end = last - guard if last < count else last
        if end - start >= shortest and np.median(activity.excess_db[start:end]) <= masking_db:
            offset = activity.window // 2
            stretches.append((start * activity.hop + offset, end * activity.hop + offset))
    return stretches


def runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Find the runs of True.

    Args:
        flags: `(n,)`.

    Returns:
        First and past-the-last index of each, in order.
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def _moving_average(values: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Centred moving average over the first axis, ends repeated."""
    padding = [(width // 2, width - 1 - width // 2)] + [(0, 0)] * (values.ndim - 1)
    padded = np.pad(values, padding, mode="edge")
    total = padded[: len(values)].copy()
    for offset in range(1, width):
        total += padded[offset : offset + len(values)]
    return total / np.float32(width)


def _mel_edges(low_hz: float, high_hz: float) -> NDArray[np.float64]:
    """Edges of bands of equal width on the mel scale, in Hz."""
    low, high = (2595.0 * math.log10(1.0 + hz / 700.0) for hz in (low_hz, high_hz))
    return np.asarray(700.0 * (10.0 ** (np.linspace(low, high, _BANDS + 1) / 2595.0) - 1.0))
