"""Phases for amplitudes that have none, of spectra of the longest window as complex arrays `(F, N)`."""

import heapq

import numpy as np
from numpy.typing import NDArray

from sottovoce.signal.stft import MultiResolutionSTFT

Amplitude = NDArray[np.float64]
Spectrum = NDArray[np.complex128]


def analyse(stft: MultiResolutionSTFT, waveform: NDArray[np.floating]) -> Spectrum:
    """Spectrum of a whole signal.

    Args:
        stft: Window and hop.
        waveform: Samples `(T,)`.

    Returns:
        Spectrum `(F, N)`.
    """
    real, imaginary = stft.analyse(waveform.astype(np.float64))
    return np.asarray(real + 1j * imaginary)


def synthesise(stft: MultiResolutionSTFT, spectrum: Spectrum, samples: int) -> NDArray[np.float64]:
    """Signal that a spectrum makes, whether or not it is the spectrum of one.

    Args:
        stft: Window and hop.
        spectrum: Spectrum `(F, N)`.
        samples: Length of the signal.

    Returns:
        Samples `(samples,)`.
    """
    return np.asarray(stft.synthesise(np.stack([spectrum.real, spectrum.imag]), samples), dtype=np.float64)


def phasors(spectrum: Spectrum) -> Spectrum:
    """Unit phasors of a spectrum; 1 where it is 0.

    Args:
        spectrum: Of any shape.

    Returns:
        e^(iφ), of the same shape.
    """
    amplitude = np.abs(spectrum)
    return np.where(amplitude > 0, spectrum / np.where(amplitude > 0, amplitude, 1.0), 1.0)


def gaussian_variance(window: NDArray[np.float64]) -> float:
    """Variance of the Gaussian exp(-t² / 2v) that is most like a window.

    Args:
        window: Symmetric, `(W,)`.

    Returns:
        v in samples squared: the one with the greatest normalised inner product of window and Gaussian.

    Source:
        Prusa, Balazs and Søndergaard (2017), section III: the window is taken for a Gaussian.
    """
    time = np.arange(len(window)) - len(window) / 2
    variances = np.geomspace(1e-3, 1.0, 1000) * len(window) ** 2
    gaussians = np.exp(-(time**2) / (2 * variances[:, np.newaxis]))
    similarity = gaussians @ window / np.linalg.norm(gaussians, axis=1)
    return float(variances[np.argmax(similarity)])


def heap_integration(
    amplitude: Amplitude, stft: MultiResolutionSTFT, rng: np.random.Generator, *, tolerance: float = 1e-6
) -> Spectrum:
    """Phases that follow from the amplitude alone, by phase-gradient heap integration.

    With a Gaussian window of variance v, the logarithm of a spectrum, with phases relative to the centre of the
    window, is an analytic function but for a known factor. So the phase φ(t, ω) follows from s = log amplitude:

        ∂φ/∂t = ω + (∂s/∂ω) / v        ∂φ/∂ω = -v ∂s/∂t

    The gradient is integrated by the trapezoidal rule from the loudest bin on, always from the loudest bin that has a
    phase to its neighbours: so errors that arise in silence stay there. Bins that cannot be reached without crossing
    silence begin a new island, at phase 0.

    Args:
        amplitude: `(F, N)`, at least 0.
        stft: Window, taken for a Gaussian, and hop; a quarter of the window or less.
        rng: Of the phases of silent bins.
        tolerance: Bins below this share of the greatest amplitude are silent: their phase is random.

    Returns:
        Unit phasors `(F, N)`.

    Source:
        Prusa, Balazs and Søndergaard, "A noniterative method for reconstruction of phase from STFT magnitude",
        IEEE/ACM TASLP 25(5), 2017, algorithm 1.
    """
    bins, frames = amplitude.shape
    greatest = float(amplitude.max(initial=0.0))
    phases = rng.uniform(-np.pi, np.pi, amplitude.shape)
    if greatest <= 0.0 or frames < 2:
        return np.asarray(np.exp(1j * phases))
    audible = amplitude > tolerance * greatest
    # Logarithms of silence would give slopes at the edge of sound that are not there.
    log = np.log(np.maximum(amplitude, tolerance * greatest))
    variance, spacing = gaussian_variance(stft.analysis_tapers[0]), 2 * np.pi / stft.window
    along_frequency, along_time = (np.gradient(log, axis=axis) for axis in (0, 1))
    frequencies = spacing * np.arange(bins)[:, np.newaxis]
    per_frame = stft.hop * (frequencies + along_frequency / (spacing * variance))
    per_bin = -variance * spacing * along_time / stft.hop
    flat_phases = _integrate(amplitude, audible, per_frame, per_bin, phases)
    # A transform of the samples from the beginning of the window on, not from its centre, turns every other bin by π.
    signs = np.where(np.arange(bins) % 2, -1.0, 1.0)[:, np.newaxis]
    return np.asarray(signs * np.exp(1j * flat_phases))


def _integrate(
    amplitude: Amplitude,
    audible: NDArray[np.bool_],
    per_frame: NDArray[np.float64],
    per_bin: NDArray[np.float64],
    silent_phases: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Phases `(F, N)`: the gradient from the loudest bin on. Plain lists, since a heap takes one bin at a time."""
    bins, frames = amplitude.shape
    level, waiting = amplitude.ravel().tolist(), audible.ravel().tolist()
    advance, climb, phase = (array.ravel().tolist() for array in (per_frame, per_bin, silent_phases))
    last_row = (bins - 1) * frames
    for start in np.argsort(-amplitude, axis=None, kind="stable").tolist():
        if not waiting[start]:
            continue
        waiting[start], phase[start] = False, 0.0
        heap = [(-level[start], start)]
        while heap:
            _, here = heapq.heappop(heap)
            column = here % frames
            neighbours = []
            if column + 1 < frames:
                neighbours.append((here + 1, 0.5, advance))
            if column:
                neighbours.append((here - 1, -0.5, advance))
            if here < last_row:
                neighbours.append((here + frames, 0.5, climb))
            if here >= frames:
                neighbours.append((here - frames, -0.5, climb))
            for there, half, gradient in neighbours:
                if waiting[there]:
                    waiting[there] = False
                    phase[there] = phase[here] + half * (gradient[here] + gradient[there])
                    heapq.heappush(heap, (-level[there], there))
    return np.reshape(phase, amplitude.shape)


def griffin_lim(
    amplitude: Amplitude, initial: Spectrum, stft: MultiResolutionSTFT, samples: int, *, iterations: int = 50
) -> Spectrum:
    """Phases that fit an amplitude ever better: repeatedly, those of the signal that amplitude and phases make.

    Args:
        amplitude: `(F, N)`, at least 0.
        initial: Unit phasors to begin with, `(F, N)`.
        stft: Window and hop.
        samples: Length of the signal.
        iterations: Number of repetitions.

    Returns:
        Unit phasors `(F, N)`.

    Source:
        Griffin and Lim, "Signal estimation from modified short-time Fourier transform", IEEE TASSP 32(2), 1984.
    """
    current = initial
    for _ in range(iterations):
        current = phasors(analyse(stft, synthesise(stft, amplitude * current, samples)))
    return current
