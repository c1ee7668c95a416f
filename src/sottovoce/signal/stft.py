"""Short-time spectra with several windows, one hop and perfect reconstruction."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sottovoce.signal.windows import sliding_windows

FloatArray = NDArray[np.floating[Any]]


def sqrt_hann(window: int, fall: int | None = None) -> NDArray[np.float64]:
    """Square root of a periodic Hann window, of unit energy; it may fall faster than it rises.

    Args:
        window: Length in samples.
        fall: Length of the second half in samples; None for half the window.

    Returns:
        Window `(window,)` whose squares add up to 1, so that white noise has the same mean power in every resolution.

    Source:
        Mauler and Martin, "A low delay, variable resolution, perfect reconstruction spectral analysis-synthesis system
        for speech enhancement" (2007).
    """
    fall = window // 2 if fall is None else fall
    hann = np.concatenate([_hann(2 * (window - fall))[: window - fall], _hann(2 * fall)[fall:]])
    return np.asarray(np.sqrt(hann / hann.sum()))


def synthesis_taper(analysis: NDArray[np.float64], length: int, hop: int) -> NDArray[np.float64]:
    """Window which undoes `sqrt_hann` by overlap-add of the last samples of every frame.

    Args:
        analysis: Window `(W,)` that falls over half of `length`.
        length: Length in samples, even, at most W.
        hop: Hop in samples, at most half of `length`.

    Returns:
        Window `(length,)`. Its product with the end of the analysis window is a Hann window, divided by what such
        windows add up to at a distance of `hop`.
    """
    end, product = analysis[-length:], _hann(length)
    overlapped = np.zeros(-(-length // hop) * hop)
    overlapped[:length] = product
    overlapped = overlapped.reshape(-1, hop).sum(axis=0)
    # Where both begin at 0, so does the quotient.
    quotient = np.divide(product, end, out=np.zeros(length), where=end > 0)
    return quotient / np.resize(overlapped, length)


def _hann(window: int) -> NDArray[np.float64]:
    """Periodic Hann window."""
    return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window))


class MultiResolutionSTFT:
    """Spectra of several windows that share one hop, and the inverse of the longest.

    With a synthesis window shorter than the analysis window, what a frame gives back is its end alone. A sample is then
    complete when the synthesis window has passed it, and the longer past still sharpens the spectrum.

    Frame n holds the samples nH + H - W .. nH + H - 1 (W the longest window, H the hop), so it is complete when H new
    samples have come. Shorter windows are cut from the centre of the same W samples: all maps have the same number of
    frames and the same alignment.

    Args:
        windows: Window lengths in samples, even, longest first.
        hop: Hop in samples, at most half the synthesis window.
        synthesis_window: Length of the synthesis window in samples, even; None for the longest window. A shorter one
            makes the analysis window asymmetric, and there can be only one.

    Attributes:
        windows: Lengths of the windows in samples.
        hop: Hop in samples.
        synthesis_window: Length of the synthesis window in samples.
        analysis_tapers: Shapes `(W,)` of all windows.
        synthesis_taper: Shape `(V,)` of the synthesis window.

    Raises:
        ValueError: A window is odd, windows are not in falling order, or the hop or the synthesis window is too long.
    """

    def __init__(self, windows: Sequence[int], hop: int, synthesis_window: int | None = None) -> None:
        if not windows or any(w < 2 or w % 2 for w in windows) or list(windows) != sorted(set(windows), reverse=True):
            raise ValueError(f"found windows {list(windows)}, expected even lengths in samples, longest first")
        length = windows[0] if synthesis_window is None else synthesis_window
        if length % 2 or not 2 <= length <= windows[0] or (length < windows[0] and len(windows) > 1):
            raise ValueError(
                f"found a synthesis window of {length} samples, expected an even length up to that of the longest "
                f"window, {windows[0]}, and no shorter one where there are several windows"
            )
        if not 1 <= hop <= length // 2:
            raise ValueError(f"found hop {hop}, expected 1 to {length // 2} samples, half the synthesis window")
        self.windows = tuple(windows)
        self.hop = hop
        self.synthesis_window = length
        self.analysis_tapers = [sqrt_hann(windows[0], length // 2), *(sqrt_hann(w) for w in windows[1:])]
        self.synthesis_taper = synthesis_taper(self.analysis_tapers[0], length, hop)

    @property
    def window(self) -> int:
        """Length of the longest window in samples."""
        return self.windows[0]

    @property
    def overlap(self) -> int:
        """Samples by which the synthesis windows of neighbouring frames overlap."""
        return self.synthesis_window - self.hop

    @property
    def bins(self) -> tuple[int, ...]:
        """Number of frequency bins of each window."""
        return tuple(w // 2 + 1 for w in self.windows)

    def frame_count(self, samples: int) -> int:
        """Number of frames that reach every one of `samples` samples as often as any other."""
        return -(-(samples + self.overlap) // self.hop) if samples else 0

    def frames(self, buffer: FloatArray) -> FloatArray:
        """Complete frames of a buffer that begins with W - H samples of the past.

        Args:
            buffer: Samples `(..., T)`.

        Returns:
            View `(..., N, W)`, not to be written to.
        """
        return sliding_windows(buffer, self.window, self.hop)

    def spectra(self, frames: FloatArray) -> FloatArray:
        """Spectra of frames in every resolution.

        Args:
            frames: Samples `(..., N, W)`.

        Returns:
            Real and imaginary parts `(..., 2, F, N)` in the dtype of the frames, F the sum of `bins`, longest window
            first.
        """
        parts = []
        for length, window in zip(self.windows, self.analysis_tapers, strict=True):
            start = (self.window - length) // 2
            tapered = frames[..., start : start + length] * window.astype(frames.dtype)
            parts.append(np.swapaxes(np.fft.rfft(tapered, axis=-1), -1, -2))
        spectrum = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-2)
        spectra = np.empty((*spectrum.shape[:-2], 2, *spectrum.shape[-2:]), frames.dtype)
        spectra[..., 0, :, :], spectra[..., 1, :, :] = spectrum.real, spectrum.imag
        return spectra

    def overlap_add(self, spectrum: FloatArray) -> FloatArray:
        """Add up the inverse transforms of frames of the longest window.

        Args:
            spectrum: Real and imaginary parts `(..., 2, F, N)`, F the bins of the longest window.

        Returns:
            Samples `(..., (N - 1) H + V)`, V the synthesis window; the first V - H belong to the past of the first
            frame, the last V - H lack what later frames add.
        """
        complex_spectrum = np.swapaxes(spectrum[..., 0, :, :] + 1j * spectrum[..., 1, :, :], -1, -2)
        frames = np.fft.irfft(complex_spectrum, n=self.window, axis=-1).astype(spectrum.dtype, copy=False)
        return self._add(frames[..., -self.synthesis_window :] * self.synthesis_taper.astype(spectrum.dtype))

    def gain_over_time(self, gains: FloatArray) -> FloatArray:
        """Gain that a signal gets when its frames are multiplied by gains, all bins of a frame by the same.

        Args:
            gains: One gain per frame, `(..., N)`.

        Returns:
            Gain of every sample, `(..., (N - 1) H + V)`, laid out as by `overlap_add`: a smooth curve through the gains
            at the centres of their frames.
        """
        product = (self.analysis_tapers[0][-self.synthesis_window :] * self.synthesis_taper).astype(gains.dtype)
        return self._add(gains[..., np.newaxis] * product)

    def _add(self, frames: FloatArray) -> FloatArray:
        """Add up windowed frames `(..., N, V)`, each a hop behind the one before."""
        count, hop, hops = frames.shape[-2], self.hop, -(-self.synthesis_window // self.hop)
        if count == 1:
            return frames[..., 0, :]
        missing = hops * hop - self.synthesis_window
        if missing:
            frames = np.pad(frames, [(0, 0)] * (frames.ndim - 1) + [(0, missing)])
        pieces = frames.reshape(*frames.shape[:-1], hops, hop)
        added = np.zeros((*frames.shape[:-2], count + hops - 1, hop), frames.dtype)
        for shift in range(hops):
            added[..., shift : shift + count, :] += pieces[..., shift, :]
        samples = max(count - 1, 0) * hop + self.synthesis_window
        return added.reshape(*frames.shape[:-2], -1)[..., :samples]

    def analyse(self, waveform: FloatArray) -> FloatArray:
        """Spectra of a whole signal.

        Args:
            waveform: Samples `(..., T)`.

        Returns:
            Real and imaginary parts `(..., 2, F, N)`, N = `frame_count(T)`.
        """
        samples = waveform.shape[-1]
        past = self.window - self.hop
        future = self.frame_count(samples) * self.hop - samples
        pad = [(0, 0)] * (waveform.ndim - 1) + [(past, future)]
        return self.spectra(self.frames(np.pad(waveform, pad)))

    def synthesise(self, spectrum: FloatArray, samples: int) -> FloatArray:
        """Signal of which `spectrum` are the spectra; the inverse of `analyse` for the longest window.

        Args:
            spectrum: Real and imaginary parts `(..., 2, F, N)`; bins behind the longest window's are ignored.
            samples: Length of the signal.

        Returns:
            Samples `(..., samples)`.
        """
        return self.overlap_add(spectrum[..., : self.bins[0], :])[..., self.overlap : self.overlap + samples]
