"""Ratio masks, of spectra as complex tensors of any shape: what networks learn, and what oracles apply."""

import torch
from torch import Tensor

_LIMIT, _SLOPE = 10.0, 0.1  # K and C of the compression of complex masks
# The inverse of the compression is infinite at its limit.
_MAX_SHARE = 0.999
# Quotients of smaller numbers are none in float32.
_SILENCE = 1e-15


def ideal_ratio_mask(speech: Tensor, noise: Tensor) -> Tensor:
    """M = sqrt(|S|² / (|S|² + |N|²)).

    Args:
        speech: Spectrum S.
        noise: Spectrum N of the same shape: all that is not the wanted speech, reverberation included.

    Returns:
        Mask of the same shape in 0..1; 0 where both are silent.

    Source:
        Wang, Narayanan and Wang, "On training targets for supervised speech separation", IEEE TASLP 22(12), 2014,
        with exponent 1/2.
    """
    wanted = speech.abs()
    total = torch.hypot(wanted, noise.abs())
    return wanted / total.where(total > 0, 1.0)


def complex_ratio_mask(mixture: Tensor, speech: Tensor) -> Tensor:
    """M = S / Y: M_r = (Y_r S_r + Y_i S_i) / |Y|², M_i = (Y_r S_i - Y_i S_r) / |Y|².

    Args:
        mixture: Spectrum Y.
        speech: Spectrum S of the same shape.

    Returns:
        Mask of the same shape, unbounded; 0 where the mixture is silent.

    Source:
        Williamson, Wang and Wang, "Complex ratio masking for monaural speech separation", IEEE TASLP 24(3), 2016.
    """
    audible = mixture.abs() > _SILENCE
    return (speech / mixture.where(audible, 1.0)).where(audible, 0.0)


def compress(mask: Tensor) -> Tensor:
    """K (1 - e^(-C M)) / (1 + e^(-C M)) of the real and of the imaginary part.

    Args:
        mask: Unbounded.

    Returns:
        Of the same shape, both parts in -K..K.

    Source:
        Williamson, Wang and Wang (2016), K = 10 and C = 0.1.
    """
    # (1 - e^-x) / (1 + e^-x) = tanh(x / 2), which does not overflow.
    return torch.view_as_complex(_LIMIT * torch.tanh(0.5 * _SLOPE * torch.view_as_real(mask)))


def decompress(compressed: Tensor) -> Tensor:
    """Undo `compress`; parts at its limit or beyond are brought just below it.

    Args:
        compressed: What a network or `compress` gave.

    Returns:
        Of the same shape, both parts in -76..76.

    Source:
        Williamson, Wang and Wang (2016).
    """
    share = (torch.view_as_real(compressed) / _LIMIT).clamp(-_MAX_SHARE, _MAX_SHARE)
    return torch.view_as_complex(torch.atanh(share) / (0.5 * _SLOPE))
