"""Composite measures of speech quality (CSIG, CBAK, COVL) and the two spectral distances they are made of.

Published values of these measures come from Loizou's scripts, so their constants are kept to the letter.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sottovoce.metrics.intrusive import SAMPLE_RATE, FloatArray, check_pair, hann_frames, is_silent

_EPS = float(np.finfo(np.float64).eps)
_BEST_SHARE = 0.95
_LPC_ORDER = 16

_FFT = 1024
# fmt: off
_BAND_CENTRES_HZ = np.array([
    50.0, 120.0, 190.0, 260.0, 330.0, 400.0, 470.0, 540.0, 617.372, 703.378, 798.717, 904.128, 1020.38,
    1148.30, 1288.72, 1442.54, 1610.70, 1794.16, 1993.93, 2211.08, 2446.71, 2701.97, 2978.04, 3276.17, 3597.63,
])
_BANDWIDTHS_HZ = np.array([
    70.0, 70.0, 70.0, 70.0, 70.0, 70.0, 70.0, 77.3724, 86.0056, 95.3398, 105.411, 116.256, 127.914,
    140.423, 153.823, 168.154, 183.457, 199.776, 217.153, 235.631, 255.255, 276.072, 298.126, 321.465, 346.136,
])
# fmt: on
_GLOBAL_PEAK_WEIGHT_DB = 20.0
_LOCAL_PEAK_WEIGHT_DB = 1.0


class Composite(NamedTuple):
    """Predicted mean opinion scores, 1 to 5."""

    csig: float
    """Distortion of the speech itself."""
    cbak: float
    """Intrusiveness of the background."""
    covl: float
    """Overall quality."""


def composite(*, pesq: float, llr: float, wss: float, segmental_snr: float) -> Composite:
    """Predict ITU-T P.835 ratings from four measures.

    Args:
        pesq: PESQ MOS-LQO, wideband unless stated otherwise.
        llr: Log-likelihood ratio.
        wss: Weighted spectral slope distance in dB.
        segmental_snr: Segmental SNR in dB.

    Returns:
        CSIG, CBAK and COVL, each limited to 1..5; NaN where an argument it needs is NaN.

    Source:
        Hu and Loizou, IEEE TASLP 16(1), 2008; coefficients of their scripts.
    """
    csig = 3.093 - 1.029 * llr + 0.603 * pesq - 0.009 * wss
    cbak = 1.634 + 0.478 * pesq - 0.007 * wss + 0.063 * segmental_snr
    covl = 1.594 + 0.805 * pesq - 0.512 * llr - 0.007 * wss
    return Composite(*(float(np.clip(score, 1.0, 5.0)) for score in (csig, cbak, covl)))


def llr(reference: FloatArray, estimate: FloatArray) -> float:
    """Log-likelihood ratio of linear prediction of order 16, mean of the best 95 % of frames.

    Args:
        reference: Clean speech `(samples,)` at 16 kHz, full scale ±1.
        estimate: Processed speech `(samples,)`, aligned with the reference.

    Returns:
        Distance, >= 0, not capped at 2 per frame; NaN for a silent signal or one shorter than 38 ms.

    Raises:
        AudioError: The signals are not `(samples,)` of equal length.

    Source:
        Hu and Loizou, IEEE TASLP 16(1), 2008; Quackenbush et al., Objective Measures of Speech Quality, 1988.
    """
    check_pair(reference, estimate)
    # The offset gives a frame of digital silence an autocorrelation other than zero.
    clean = hann_frames(reference + _EPS)
    if not len(clean) or is_silent(reference) or is_silent(estimate):
        return math.nan
    autocorrelation = _autocorrelation(clean, _LPC_ORDER)
    ideal = _prediction_energy(_linear_prediction(autocorrelation), autocorrelation)
    other = _linear_prediction(_autocorrelation(hann_frames(estimate + _EPS), _LPC_ORDER))
    ratio = _prediction_energy(other, autocorrelation) / ideal
    # Rounding can turn the energy of an almost perfectly predictable frame negative: the scripts call it far off.
    return _mean_of_best(np.log(np.where(ratio > 0.0, ratio, 1000.0)))


def wss(reference: FloatArray, estimate: FloatArray) -> float:
    """Weighted spectral slope distance in 25 critical bands, mean of the best 95 % of frames.

    Args:
        reference: Clean speech `(samples,)` at 16 kHz, full scale ±1; the level matters through a floor of 1e-10.
        estimate: Processed speech `(samples,)`, aligned with the reference.

    Returns:
        Distance in dB, >= 0; NaN for a silent signal or one shorter than 38 ms.

    Raises:
        AudioError: The signals are not `(samples,)` of equal length.

    Source:
        Klatt, ICASSP 1982; Hu and Loizou, IEEE TASLP 16(1), 2008.
    """
    check_pair(reference, estimate)
    clean = _band_levels(hann_frames(reference))
    noisy = _band_levels(hann_frames(estimate))
    if not len(clean) or is_silent(reference) or is_silent(estimate):
        return math.nan
    weights = (_slope_weights(clean) + _slope_weights(noisy)) / 2.0
    difference = np.diff(clean, axis=-1) - np.diff(noisy, axis=-1)
    return _mean_of_best(np.sum(weights * difference**2, axis=-1) / np.sum(weights, axis=-1))


def _mean_of_best(distances: NDArray[np.float64]) -> float:
    return float(np.mean(np.sort(distances)[: round(len(distances) * _BEST_SHARE)]))


def _autocorrelation(frames: NDArray[np.float64], order: int) -> NDArray[np.float64]:
    """Autocorrelation `(frames, order + 1)` of every row."""
    length = frames.shape[-1]
    return np.stack(
        [np.einsum("nt,nt->n", frames[:, : length - lag], frames[:, lag:]) for lag in range(order + 1)], axis=-1
    )


def _linear_prediction(autocorrelation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Prediction error filters `(frames, order + 1)` by the Levinson-Durbin recursion, all frames at once."""
    filters = np.zeros_like(autocorrelation)
    filters[:, 0] = 1.0
    error = autocorrelation[:, 0].copy()
    for order in range(1, autocorrelation.shape[-1]):
        correlation = np.sum(filters[:, :order] * autocorrelation[:, order:0:-1], axis=-1)
        reflection = -correlation / error
        filters[:, 1 : order + 1] += reflection[:, None] * filters[:, order - 1 :: -1]
        error *= 1.0 - reflection**2
    return filters


def _prediction_energy(filters: NDArray[np.float64], autocorrelation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Energy `(frames,)` that is left of a signal, given by its autocorrelation, after each filter."""
    order = filters.shape[-1] - 1
    symmetric = np.concatenate([[1.0], np.full(order, 2.0)])
    return np.asarray(np.sum(symmetric * _autocorrelation(filters, order) * autocorrelation, axis=-1))


def _band_levels(frames: NDArray[np.float64]) -> NDArray[np.float64]:
    """Levels `(frames, 25)` of the critical bands in dB."""
    bins = np.arange(_FFT // 2)
    hz_to_bins = _FFT / SAMPLE_RATE
    distance = (bins - np.floor(_BAND_CENTRES_HZ * hz_to_bins)[:, None]) / (_BANDWIDTHS_HZ * hz_to_bins)[:, None]
    filters = np.exp(-11.0 * distance**2 + np.log(_BANDWIDTHS_HZ[0] / _BANDWIDTHS_HZ)[:, None])
    filters[filters <= math.exp(-30.0 / (2.0 * 2.303))] = 0.0
    power = np.abs(np.fft.rfft(frames, _FFT)[:, :-1]) ** 2
    return np.asarray(10.0 * np.log10(np.maximum(power @ filters.T, 1e-10)))


def _slope_weights(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Klatt's weights `(frames, 24)`: bands near the global and the nearest local peak count more."""
    rising = np.diff(levels, axis=-1) > 0.0
    local_peak = levels[:, :-1].copy()
    # A falling slope belongs to the peak where its run starts. A rising one belongs to its run's end, for which the
    # scripts take the band before the summit.
    for band in range(1, rising.shape[-1]):
        falls_on = ~rising[:, band] & ~rising[:, band - 1]
        local_peak[falls_on, band] = local_peak[falls_on, band - 1]
    for band in range(rising.shape[-1] - 2, -1, -1):
        rises_on = rising[:, band] & rising[:, band + 1]
        local_peak[rises_on, band] = local_peak[rises_on, band + 1]
    peak = np.max(levels, axis=-1, keepdims=True)
    to_global_peak, to_local_peak = peak - levels[:, :-1], local_peak - levels[:, :-1]
    global_weights = _GLOBAL_PEAK_WEIGHT_DB / (_GLOBAL_PEAK_WEIGHT_DB + to_global_peak)
    local_weights = _LOCAL_PEAK_WEIGHT_DB / (_LOCAL_PEAK_WEIGHT_DB + to_local_peak)
    return np.asarray(global_weights * local_weights)
