"""Losses that compare spectra and signals. p is the compression; letters with a hat are estimates."""

import torch
from torch import Tensor

from sottovoce.models.frontend import TorchSTFT, compressed_amplitude, phasor


def reconstruction(estimate: Tensor, target: Tensor) -> Tensor:
    """rec(Â, A) = mean over bins and frames of (Â^p - A^p)².

    Args:
        estimate: Compressed amplitude Â^p, `(B, F, N)`.
        target: Compressed amplitude A^p, `(B, F, N)`.

    Returns:
        Scalar, at least 0.

    Source:
        Wang, Venkataramani and Smaragdis (2020), code, p = 0.5.
    """
    return (estimate - target).square().mean()


def complex_reconstruction(estimate: Tensor, target: Tensor, compression: float) -> Tensor:
    """Mean |Ŝ|Ŝ|^(p-1) - S|S|^(p-1)|²: amplitudes compressed, phases kept.

    Args:
        estimate: Real and imaginary parts `(B, 2, F, N)`.
        target: Real and imaginary parts `(B, 2, F, N)`.
        compression: p.

    Returns:
        Scalar, at least 0.

    Source:
        Ephrat et al. (2018), power-law compression of complex spectra.
    """

    def compress(spectrum: Tensor) -> Tensor:
        return phasor(spectrum) * compressed_amplitude(spectrum, compression).unsqueeze(1)

    return (compress(estimate) - compress(target)).square().sum(dim=1).mean()


def multi_resolution(estimate: Tensor, target: Tensor, resolutions: list[TorchSTFT], compression: float) -> Tensor:
    """Sum over windows w of rec(|STFT_w(ŝ)|, |STFT_w(s)|).

    Args:
        estimate: Samples ŝ `(B, T)`.
        target: Samples s `(B, T)`.
        resolutions: One STFT per window.
        compression: p.

    Returns:
        Scalar, at least 0.

    Source:
        Li, Sun, Wang and Naqvi (SSPD 2023): losses summed over windows of 1024, 512, 256 and 128.
    """
    total = estimate.new_zeros(())
    for stft in resolutions:
        # The target is a constant: no gradient is taken back through its spectra.
        estimated, wanted = (
            compressed_amplitude(stft.analyse(waveform), compression) for waveform in (estimate, target.detach())
        )
        total = total + reconstruction(estimated, wanted)
    return total


def signal_to_error(estimate: Tensor, target: Tensor) -> Tensor:
    """Mean over clips of 10 log10((|s - ŝ|² + τE) / E), E = |s|² + εT, in dB: the error below the speech.

    Compressed spectra hardly feel whether loud speech keeps its level; this term does. τ = 1e-3 stops it from polishing
    clips that are good already, ε = 1e-2 (of a mixture of unit level) keeps clips without speech finite.

    Args:
        estimate: Samples ŝ in the mixture's scale, `(B, T)`.
        target: Samples s in the mixture's scale, `(B, T)`.

    Returns:
        Scalar in dB, at least -30.

    Source:
        Wisdom et al., "Unsupervised sound separation using mixture invariant training" (2020), equation 2.
    """
    energy = target.square().sum(dim=1) + 1e-2 * target.shape[1]
    error = (target - estimate).square().sum(dim=1)
    return 10 * torch.log10(error / energy + 1e-3).mean()


def silence(spectrum: Tensor) -> Tensor:
    """Mean |Ŝ|² on clips in which nobody speaks.

    Args:
        spectrum: Estimate in the mixture's scale, `(B, 2, F, N)`.

    Returns:
        Scalar, at least 0.

    Source:
        Wang, Venkataramani and Smaragdis (2020), code: noise-only clips.
    """
    return spectrum.square().sum(dim=1).mean()
