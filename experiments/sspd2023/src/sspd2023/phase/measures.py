"""How wrong phases are, and how well amplitudes and phases fit together, by the mixture's local signal-to-noise ratio.

Spectra are complex arrays `(F, N)`.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sottovoce.signal.stft import MultiResolutionSTFT
from sspd2023.phase.reconstruction import Spectrum, analyse, synthesise

EDGES_DB = tuple(range(-30, 35, 5))
"""Edges of the classes of local ratios in dB; the outermost classes hold what lies beyond."""

CENTRES_DB = tuple(low + 2.5 for low in EDGES_DB[:-1])
"""Their centres in dB."""

_ACTIVE_DB = 50.0  # bins of speech further below its loudest bin are left out
_FEWEST_BINS = 20  # a class of fewer bins has no value


@dataclass(frozen=True)
class Curves:
    """Measures of one output by local ratio, one value per class of `EDGES_DB`; NaN for classes of few bins.

    Attributes:
        phase_degrees: Mean absolute phase error; 90 is chance.
        advance_degrees: Mean absolute error of the phase's advance from frame to frame. Chance is 90 for random phases
            and less for those of another signal, since frames that overlap advance by about their bin's frequency.
        inconsistency_db: Energy of the inconsistent part in dB relative to that of the output.
    """

    phase_degrees: tuple[float, ...]
    advance_degrees: tuple[float, ...]
    inconsistency_db: tuple[float, ...]


def inconsistency(spectrum: Spectrum, stft: MultiResolutionSTFT, samples: int) -> Spectrum:
    """What no signal has of a spectrum: Ŝ - STFT(iSTFT(Ŝ)).

    Args:
        spectrum: Ŝ.
        stft: Window and hop.
        samples: Length of the signal.

    Returns:
        The inconsistent part, of the shape of the spectrum; 0 for the spectrum of a signal.

    Source:
        Le Roux, Ono and Sagayama, "Explicit consistency constraints for STFT spectrograms and their application to
        phase reconstruction", SAPA 2008.
    """
    return np.asarray(spectrum - analyse(stft, synthesise(stft, spectrum, samples)))


def phase_error(estimate: Spectrum, target: Spectrum) -> NDArray[np.float64]:
    """Absolute difference of phases, which wraps: 359° and 1° are 2° apart.

    Args:
        estimate: Spectrum or phasors.
        target: The same, of equal shape.

    Returns:
        Error in degrees, 0 to 180.
    """
    return np.asarray(np.abs(np.degrees(np.angle(estimate * np.conj(target)))))


def advance_error(estimate: Spectrum, target: Spectrum) -> NDArray[np.float64]:
    """Error of the phase's advance from one frame to the next; a phase offset that stays does not matter.

    Args:
        estimate: Spectrum or phasors.
        target: The same, of equal shape.

    Returns:
        Error in degrees, 0 to 180; that of the first frame is NaN.
    """
    advances = [np.angle(each[:, 1:] * np.conj(each[:, :-1])) for each in (estimate, target)]
    error = phase_error(np.exp(1j * advances[0]), np.exp(1j * advances[1]))
    return np.pad(error, ((0, 0), (1, 0)), constant_values=math.nan)


def curves(output: Spectrum, speech: Spectrum, mixture: Spectrum, stft: MultiResolutionSTFT, samples: int) -> Curves:
    """Measure one output by local ratio.

    Args:
        output: Its amplitude and phase.
        speech: Clean speech S.
        mixture: Mixture Y; the local ratio of a bin is |S|² / |Y - S|².
        stft: Window and hop.
        samples: Length of the signals.

    Returns:
        The measures, over bins of speech within 50 dB of its loudest.
    """
    level, rest = np.abs(speech), np.abs(mixture - speech)
    active = level > np.max(level, initial=0.0) * 10 ** (-_ACTIVE_DB / 20)
    tiny = np.finfo(np.float64).tiny
    ratio_db = 20 * np.log10(np.maximum(level, tiny) / np.maximum(rest, tiny))
    classes = np.digitize(ratio_db, EDGES_DB[1:-1])
    phase, advance = phase_error(output, speech), advance_error(output, speech)
    wrong, whole = np.abs(inconsistency(output, stft, samples)) ** 2, np.abs(output) ** 2
    rows = []
    for index in range(len(CENTRES_DB)):
        chosen = active & (classes == index)
        if np.count_nonzero(chosen) < _FEWEST_BINS:
            rows.append((math.nan, math.nan, math.nan))
            continue
        share = float(wrong[chosen].sum() / max(float(whole[chosen].sum()), tiny))
        # Rounding errors alone are no more than -200 dB.
        share_db = 10 * math.log10(max(share, 1e-20))
        rows.append((float(phase[chosen].mean()), float(np.nanmean(advance[chosen])), share_db))
    return Curves(*(tuple(column) for column in zip(*rows, strict=True)))
