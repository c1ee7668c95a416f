"""Measures that compare an estimate with its clean reference, sample by sample aligned, both at 16 kHz.

A score that does not exist (a silent or too short signal) is NaN, never 0.
"""

import contextlib
import math
import warnings
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sottovoce.errors import AudioError
from sottovoce.extras import require
from sottovoce.signal.levels import SILENCE_DB, rms_db

FloatArray = NDArray[np.floating[Any]]

SAMPLE_RATE = 16_000
"""Rate of every measure of this package, in Hz."""

_EPS = float(np.finfo(np.float64).eps)
_FRAME = 480  # 30 ms
_HOP = _FRAME // 4  # 75 % overlap
# The reference code has room for 50 utterances, each at least 0.2 s with a pause of 0.2 s, and writes beyond it.
_PESQ_MAX = 20 * SAMPLE_RATE
_SEGMENT_SNR_RANGE_DB = (-10.0, 35.0)


def pesq(reference: FloatArray, estimate: FloatArray, *, band: Literal["wb", "nb"] = "wb") -> float:
    """Perceptual Evaluation of Speech Quality, mapped to a mean opinion score (MOS-LQO).

    Args:
        reference: Clean speech `(samples,)` at 16 kHz, full scale ±1.
        estimate: Processed speech `(samples,)`, aligned with the reference.
        band: "wb" for wideband (P.862.2), "nb" for narrowband (P.862 with the mapping of P.862.1).

    Returns:
        MOS-LQO, about 1.0 to 4.6; NaN for a signal that is silent or shorter than a quarter of a second, or in which
        PESQ finds no speech. A signal longer than 20 s is scored in equal pieces of at most 20 s, since PESQ is made
        for recordings of that length; the score is the mean of the pieces that have one.

        Where the reference code mistakes the delay by seconds (one of 35 mixtures at -5 to 5 dB in rooms; sounds that
        are not speech) it reads beyond its arrays, and what is in memory there changes the score: such a mixture had
        between 1.38 and 2.49 in one process. A single score that stands out says nothing.

    Raises:
        AudioError: The signals are not `(samples,)` of equal length.
        MissingExtraError: The package pesq is not installed.

    Source:
        ITU-T P.862 (02/2001), P.862.1 (11/2003), P.862.2 (11/2007).
    """
    require("metrics", "PESQ", "pesq")
    import pesq as itu

    check_pair(reference, estimate)
    if is_silent(reference) or is_silent(estimate):
        return math.nan
    count = -(-len(reference) // _PESQ_MAX)
    scores = []
    for clean, noisy in zip(np.array_split(reference, count), np.array_split(estimate, count), strict=True):
        if is_silent(clean) or is_silent(noisy):
            continue
        with contextlib.suppress(itu.BufferTooShortError, itu.NoUtterancesError):
            scores.append(float(itu.pesq(SAMPLE_RATE, clean, noisy, band)))
    return float(np.mean(scores)) if scores else math.nan


def pesq_raw(lqo: float) -> float:
    """Raw PESQ score from the narrowband MOS-LQO: the inverse of the mapping of P.862.1.

    Args:
        lqo: Narrowband MOS-LQO, between 0.999 and 4.999.

    Returns:
        Raw score, -0.5 to 4.5; NaN for NaN.

    Source:
        ITU-T P.862.1 (11/2003), the inverse mapping.
    """
    return (4.6607 - math.log(4.0 / (lqo - 0.999) - 1.0)) / 1.4945


def stoi(reference: FloatArray, estimate: FloatArray, *, extended: bool = False) -> float:
    """Short-Time Objective Intelligibility, plain or extended (ESTOI).

    Args:
        reference: Clean speech `(samples,)` at 16 kHz, full scale ±1.
        estimate: Processed speech `(samples,)`, aligned with the reference.
        extended: Whether to compute ESTOI, which also covers modulated noise.

    Returns:
        Correlation, at most 1; NaN for a silent signal or one with less than about 0.4 s of speech.

    Raises:
        AudioError: The signals are not `(samples,)` of equal length.
        MissingExtraError: The package pystoi is not installed.

    Source:
        Taal et al., IEEE TASLP 19(7), 2011, equation 6; Jensen and Taal, IEEE TASLP 24(11), 2016.
    """
    require("metrics", "STOI", "pystoi")
    import pystoi

    check_pair(reference, estimate)
    # pystoi needs 30 frames of 25.6 ms every 12.8 ms: it fails on less than one, and below 30 it warns, returning 1e-5.
    if len(reference) < 0.4 * SAMPLE_RATE or is_silent(reference) or is_silent(estimate):
        return math.nan
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Not enough STFT frames", category=RuntimeWarning)
        try:
            return float(pystoi.stoi(reference, estimate, SAMPLE_RATE, extended=extended))
        except RuntimeWarning:
            return math.nan


def si_sdr(reference: FloatArray, estimate: FloatArray) -> float:
    """Scale-invariant signal-to-distortion ratio; the mean of both signals is removed first.

    Args:
        reference: Clean speech `(samples,)`, full scale ±1.
        estimate: Processed speech `(samples,)`, aligned with the reference.

    Returns:
        Ratio in dB, limited to about ±156 dB by the precision of float64; NaN for a silent or constant signal.

    Raises:
        AudioError: The signals are not `(samples,)` of equal length.

    Source:
        Le Roux et al., SDR: half-baked or well done?, ICASSP 2019.
    """
    check_pair(reference, estimate)
    if is_silent(reference) or is_silent(estimate):
        return math.nan
    clean = reference.astype(np.float64) - np.mean(reference, dtype=np.float64)
    noisy = estimate.astype(np.float64) - np.mean(estimate, dtype=np.float64)
    energy = float(clean @ clean)
    if is_silent(clean) or is_silent(noisy):
        return math.nan
    target = (float(noisy @ clean) / energy) * clean
    distortion = noisy - target
    floor = _EPS * float(noisy @ noisy)
    return 10.0 * math.log10((float(target @ target) + floor) / (float(distortion @ distortion) + floor))


def segmental_snr(reference: FloatArray, estimate: FloatArray) -> float:
    """Mean signal-to-noise ratio of frames of 30 ms with 75 % overlap, each limited to -10..35 dB.

    Args:
        reference: Clean speech `(samples,)` at 16 kHz, full scale ±1.
        estimate: Processed speech `(samples,)`, aligned with the reference.

    Returns:
        Ratio in dB, -10 to 35; NaN for a silent signal or one shorter than 38 ms.

    Raises:
        AudioError: The signals are not `(samples,)` of equal length.

    Source:
        Hu and Loizou, IEEE TASLP 16(1), 2008.
    """
    check_pair(reference, estimate)
    if is_silent(reference) or is_silent(estimate):
        return math.nan
    clean = hann_frames(reference)
    noise = clean - hann_frames(estimate)
    if not len(clean):
        return math.nan
    ratio = np.sum(clean**2, axis=-1) / (np.sum(noise**2, axis=-1) + _EPS)
    return float(np.mean(np.clip(10.0 * np.log10(ratio + _EPS), *_SEGMENT_SNR_RANGE_DB)))


def hann_frames(waveform: FloatArray) -> NDArray[np.float64]:
    """Cut a signal into the windowed frames of the segmental measures: 30 ms, 75 % overlap.

    Args:
        waveform: Samples `(samples,)` at 16 kHz.

    Returns:
        Frames `(frames, 480)`, without the last complete one, as in Loizou's scripts, whose numbers are the published
        ones; `(0, 480)` for a signal shorter than two frames.
    """
    if len(waveform) < _FRAME + _HOP:
        return np.zeros((0, _FRAME))
    window = 0.5 * (1.0 - np.cos(2.0 * np.pi * np.arange(1, _FRAME + 1) / (_FRAME + 1)))
    frames = np.lib.stride_tricks.sliding_window_view(waveform.astype(np.float64), _FRAME)[::_HOP]
    return frames[:-1] * window


def is_silent(waveform: FloatArray) -> bool:
    """Whether a signal is digital silence, for which no measure is defined.

    Args:
        waveform: Samples of any shape, full scale ±1.

    Returns:
        True for an empty array or an RMS level of at most -100 dB re full scale.
    """
    return rms_db(waveform) <= SILENCE_DB


def check_pair(reference: FloatArray, estimate: FloatArray) -> None:
    """Refuse signals that cannot be compared sample by sample.

    Args:
        reference: Clean speech.
        estimate: Processed speech.

    Raises:
        AudioError: The signals are not `(samples,)` of equal length.
    """
    if reference.ndim != 1 or reference.shape != estimate.shape:
        raise AudioError(
            f"found a reference of shape {reference.shape} and an estimate of shape {estimate.shape}, expected two "
            "aligned signals (samples,) of equal length"
        )
