"""The torch side of `signal.stft`: the same spectra, and the feature maps that encoders see."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sottovoce.config import FrontendSettings
from sottovoce.models.blocks import Past, pooled
from sottovoce.signal.stft import MultiResolutionSTFT

_TINY = 1e-8
# Slow functions below this are taken away. With windows of 64 ms they hold 20 Hz but for -65 dB, 40 Hz but for -20 dB,
# and take 0.7 dB of 70 Hz, where the lowest voices begin.
_INFRASOUND_HZ = 71.0
# A shorter window cannot tell an offset from a low voice.
_MIN_INFRASOUND_SECONDS = 0.03
# The level is taken above this: what is left of a rumble does not move it.
_MIN_HZ = 60.0


def amplitude(spectrum: Tensor) -> Tensor:
    """Amplitude of a complex spectrum, with a finite gradient at 0.

    Args:
        spectrum: Real and imaginary parts `(B, 2, F, N)`.

    Returns:
        `(B, F, N)`.
    """
    return torch.sqrt(spectrum.square().sum(dim=1) + _TINY**2)


def compressed_amplitude(spectrum: Tensor, compression: float) -> Tensor:
    """Power-law compressed amplitude A^p in one step, with a finite gradient at 0.

    Args:
        spectrum: Real and imaginary parts `(B, 2, F, N)`.
        compression: p.

    Returns:
        `(B, F, N)`.
    """
    return (spectrum.square().sum(dim=1) + _TINY**2) ** (compression / 2)


def phasor(spectrum: Tensor) -> Tensor:
    """Unit phasors, the cosine and sine of the phase; (1, 0) where there is nothing.

    Args:
        spectrum: Real and imaginary parts `(B, 2, F, N)`.

    Returns:
        `(B, 2, F, N)`.
    """
    size = amplitude(spectrum).unsqueeze(1)
    empty = (size <= 2 * _TINY).to(spectrum.dtype)
    unit = spectrum / size * (1 - empty)
    return torch.cat([unit[:, :1] + empty, unit[:, 1:]], dim=1)


def rotate(phasors: Tensor, by: Tensor) -> Tensor:
    """Product of complex numbers given as real and imaginary parts.

    Args:
        phasors: `(B, 2, F, N)`.
        by: `(B, 2, F, N)`.

    Returns:
        `(B, 2, F, N)`.
    """
    (real, imaginary), (by_real, by_imaginary) = _parts(phasors), _parts(by)
    return torch.cat([real * by_real - imaginary * by_imaginary, real * by_imaginary + imaginary * by_real], dim=1)


def rotate_back(phasors: Tensor, by: Tensor) -> Tensor:
    """Product of complex numbers with the conjugates of others: by how much the phases of the first are ahead.

    Args:
        phasors: `(B, 2, F, N)`.
        by: `(B, 2, F, N)`.

    Returns:
        `(B, 2, F, N)`.
    """
    (real, imaginary), (by_real, by_imaginary) = _parts(phasors), _parts(by)
    return torch.cat([real * by_real + imaginary * by_imaginary, imaginary * by_real - real * by_imaginary], dim=1)


class TorchSTFT(nn.Module):
    """Spectra of several windows that share one hop, differentiable; equal to `signal.stft.MultiResolutionSTFT`.

    Args:
        windows: Window lengths in samples, even, longest first.
        hop: Hop in samples.
        synthesis_window: Length of the synthesis window in samples; None for the longest window.
    """

    def __init__(self, windows: tuple[int, ...], hop: int, synthesis_window: int | None = None) -> None:
        super().__init__()
        self.reference = MultiResolutionSTFT(windows, hop, synthesis_window)
        # Plain tensors: they follow the input's device in use and are not part of a checkpoint.
        self._analysis = [torch.from_numpy(taper).float() for taper in self.reference.analysis_tapers]
        self._synthesis = torch.from_numpy(self.reference.synthesis_taper).float()

    def analyse(self, waveform: Tensor) -> Tensor:
        """Spectra of whole signals.

        Args:
            waveform: Samples `(B, T)`.

        Returns:
            Real and imaginary parts `(B, 2, F, N)`, F the sum over windows, longest first.
        """
        stft = self.reference
        samples = waveform.shape[-1]
        future = stft.frame_count(samples) * stft.hop - samples
        frames = nn.functional.pad(waveform, (stft.window - stft.hop, future)).unfold(-1, stft.window, stft.hop)
        parts = []
        for length, window in zip(stft.windows, self._analysis, strict=True):
            start = (stft.window - length) // 2
            parts.append(torch.fft.rfft(frames[..., start : start + length] * window.to(waveform)))
        spectrum = torch.cat(parts, dim=-1)
        # Frames stay together in memory, as the transform gives them: turning the copy itself would take longer.
        return torch.stack([spectrum.real, spectrum.imag], dim=1).transpose(2, 3)

    def synthesise(self, spectrum: Tensor, samples: int) -> Tensor:
        """Signals of which `spectrum` are the spectra.

        Args:
            spectrum: Real and imaginary parts `(B, 2, F, N)` of the longest window.
            samples: Length of the signals.

        Returns:
            Samples `(B, samples)`.
        """
        stft = self.reference
        frames = torch.fft.irfft(torch.complex(spectrum[:, 0], spectrum[:, 1]), n=stft.window, dim=1)
        frames = frames[:, -stft.synthesis_window :] * self._synthesis.to(frames).unsqueeze(-1)
        total = (frames.shape[-1] - 1) * stft.hop + stft.synthesis_window
        added = nn.functional.fold(frames, (1, total), (1, stft.synthesis_window), stride=(1, stft.hop))
        return added[:, 0, 0, stft.overlap : stft.overlap + samples]


class FeatureMaps(nn.Module):
    """Maps of amplitude and phase, joined by channel.

    Args:
        frontend: Window, hop, exponent p of the amplitude.
        phase: "compressed" for cosine and sine of the phase times amplitude^p, which tell a phase only where there is
            energy to have one; "differences" for amplitude^p times the phase's advance since the frame before, beyond
            that of the bin's centre, and its difference to the bin below. Differences tell where in its bin a harmonic
            stands and when in its frame a click comes; a phase itself changes with the moment at which the recording
            begins.

    Attributes:
        per_bin: Maps of a bin.

    Source:
        Krawczyk and Gerkmann, "STFT phase reconstruction in voiced speech for an improved single-channel speech
        enhancement" (2014): the baseband phase, whose difference is taken along time.
    """

    def __init__(self, frontend: FrontendSettings, phase: Literal["compressed", "differences"]) -> None:
        super().__init__()
        self._compression = frontend.compression
        self._differences = phase == "differences"
        self.per_bin = 5 if self._differences else 3
        bins = np.arange(frontend.bins)
        # Turns are taken modulo 1 in whole samples, which is exact. Plain tensors: they follow the input's device and
        # are not part of a checkpoint.
        self._back = _on_the_unit_circle(-(bins * frontend.hop % frontend.window) / frontend.window)
        self._has_lower = torch.from_numpy(bins > 0).float().view(1, 1, -1, 1)

    def forward(self, spectra: Tensor, past: Past) -> Tensor:
        """Maps of spectra.

        Args:
            spectra: Real and imaginary parts `(B, 2, F, N)`.
            past: What the layer has seen.

        Returns:
            `(B, per_bin F, N)`: amplitude^p, then real and imaginary maps of the phases or of their differences.
        """
        compressed = compressed_amplitude(spectra, self._compression)
        phases = phasor(spectra)
        if self._differences:
            before = past.before(phases.flatten(1, 2)).reshape(phases.shape)
            # The sound in the middle of a window turns every bin by half a turn against the next: hence the minus.
            below = torch.cat([phases[:, :, :1], phases[:, :, :-1]], dim=2) * -self._has_lower.to(phases)
            advance = rotate(rotate_back(phases, before), self._back.to(phases))
            slope = rotate_back(phases, below)
            phases = torch.cat([advance, slope], dim=1)
        return torch.cat([compressed, (phases * compressed.unsqueeze(1)).flatten(1, 2)], dim=1)


def _parts(numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Real and imaginary parts `(B, 1, F, N)`. Slices, and not chunks, which the exporter would put into a list."""
    return numbers[:, :1], numbers[:, 1:]


def _on_the_unit_circle(turns: NDArray[np.float64]) -> Tensor:
    """Complex numbers `(1, 2, F, 1)` at F angles, given in whole turns."""
    angles = 2 * np.pi * turns
    return torch.from_numpy(np.stack([np.cos(angles), np.sin(angles)])).float().view(1, 2, -1, 1)


class Infrasound(nn.Module):
    """What lies below hearing in every frame: offset, drift and rumble, which would leak into the bins of speech.

    The part of a windowed frame that slow polynomials explain. It is an orthogonal projection, so what remains has
    nothing of a constant offset, whatever its size.

    Args:
        tapers: Shapes of the analysis windows, longest first.
        sample_rate: In Hz.

    Source:
        Slepian and Pollak (1961): T seconds distinguish 2 T f functions below f Hz.
    """

    def __init__(self, tapers: Sequence[NDArray[np.float64]], sample_rate: int) -> None:
        super().__init__()
        bases = [_slow_spectra(taper, len(taper) / sample_rate) for taper in tapers]
        # Both factors of the projection as real matrices over the rows of all windows, real parts first.
        rows = np.cumsum([0, *(len(basis) for basis, _ in bases)])
        columns = np.cumsum([0, *(basis.shape[1] for basis, _ in bases)])
        synthesis, analysis = np.zeros((2, 2, rows[-1], columns[-1]))
        for index, (basis, weights) in enumerate(bases):
            place = slice(*rows[index : index + 2]), slice(*columns[index : index + 2])
            for part, values in enumerate((basis.real, basis.imag)):
                synthesis[part][place] = values
                analysis[part][place] = values * weights[:, np.newaxis]
        # Plain tensors: they follow the input's device in use and are not part of a checkpoint.
        self._analysis = torch.from_numpy(np.concatenate(list(analysis))).float()
        self._synthesis = torch.from_numpy(np.concatenate(list(synthesis)).T.copy()).float()

    def forward(self, spectra: Tensor) -> Tensor:
        """Spectra of the part of a signal that is below hearing.

        Args:
            spectra: Real and imaginary parts `(B, 2, F, N)` of all windows.

        Returns:
            `(B, 2, F, N)`.
        """
        if not len(self._synthesis):  # all windows are short
            return torch.zeros_like(spectra)
        rows = spectra.flatten(1, 2).transpose(1, 2)
        slow = torch.matmul(torch.matmul(rows, self._analysis.to(rows)), self._synthesis.to(rows))
        return slow.transpose(1, 2).reshape(spectra.shape)


def _slow_spectra(taper: NDArray[np.float64], seconds: float) -> tuple[NDArray[np.complex128], NDArray[np.float64]]:
    """Spectra `(F, count)` of orthonormal windowed polynomials, and weights `(F,)` under which they are orthonormal."""
    count = int(2 * seconds * _INFRASOUND_HZ) if seconds >= _MIN_INFRASOUND_SECONDS else 0
    length = len(taper)
    polynomials = np.polynomial.legendre.legvander(np.linspace(-1, 1, length), count)[:, :count]
    orthonormal = np.linalg.qr(taper[:, np.newaxis] * polynomials)[0]
    weights = np.full(length // 2 + 1, 2.0 / length)
    weights[[0, -1]] = 1.0 / length
    return np.fft.rfft(orthonormal, axis=0), weights


class RunningLevel(nn.Module):
    """Running root-mean-square level of a mixture: the scale in which a system works.

    A clip's mean would look into the future. The mean over a horizon of the past can be taken live, but it forgets a
    voice within the horizon, and a quiet room would become as loud as the voice was. So the level falls slowly from
    where speech took it, and never below the mean over the horizon.

    Args:
        frontend: Windows, hop and sample rate; horizon and fall of the level.
    """

    def __init__(self, frontend: FrontendSettings) -> None:
        super().__init__()
        frames_per_second = frontend.sample_rate / frontend.hop
        self._bins = slice(max(1, math.ceil(_MIN_HZ / frontend.bin_spacing_hz)), frontend.bins)
        self._horizon = max(1, round(frontend.level_horizon_seconds * frames_per_second))
        self._fall = frontend.level_fall_db_per_second / frames_per_second * math.log(10) / 10

    def forward(self, spectra: Tensor, past: Past) -> Tensor:
        """Level at every frame.

        Args:
            spectra: Real and imaginary parts `(B, 2, F, N)`.
            past: What the layer has seen.

        Returns:
            `(B, 1, 1, N)`, above 0.
        """
        power = spectra[:, :, self._bins].square().sum(dim=1).mean(dim=1, keepdim=True)
        mean, share = pooled(past.by_signal(power), self._horizon, past)
        # Only sound that fills the horizon counts for long: no click at the beginning sets the level.
        held = self._held(mean, past)
        return past.by_frame(torch.sqrt(torch.maximum(mean / share, held) + 1e-10)).unsqueeze(1)

    def _held(self, power: Tensor, past: Past) -> Tensor:
        """The largest power so far, each value falling exponentially with its age: `(B, 1, N)`."""
        before = past.recall(power, 1)
        index = torch.ones_like(power[:1]).cumsum(dim=-1)
        age = index.transpose(1, 2) - index
        # Frames of the future count nothing.
        weights = torch.exp(-self._fall * age.clamp_min(0.0)) * (age >= 0).to(power)
        held = torch.maximum(
            (weights * power).amax(dim=-1, keepdim=True).transpose(1, 2), before * torch.exp(-self._fall * index)
        )
        past.remember(held[..., -1:])
        return held
