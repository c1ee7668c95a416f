"""An adversary that learns what clean speech looks like, and tells the system when its output does not."""

from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.parametrizations import spectral_norm

_CHANNELS = (16, 32, 32)
_KERNEL, _STRIDE = (5, 5), (3, 2)
_SLOPE = 0.2


class Discriminator(nn.Module):
    """Scores patches of compressed amplitudes, about 1 for clean speech and 0 for what pretends to be.

    Spectral normalisation keeps it from winning too early.

    Source:
        Mao et al., "Least squares generative adversarial networks" (2017); Miyato et al., "Spectral normalization for
        generative adversarial networks" (2018).
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in zip((1, *_CHANNELS), _CHANNELS, strict=False):
            layers += [spectral_norm(nn.Conv2d(inputs, outputs, _KERNEL, _STRIDE)), nn.LeakyReLU(_SLOPE)]
        self.layers = nn.Sequential(*layers, spectral_norm(nn.Conv2d(_CHANNELS[-1], 1, 1)))

    def forward(self, amplitude: Tensor) -> Tensor:
        """Score compressed amplitudes `(B, F, N)`; one value per patch `(B, F', N')`."""
        # Clips shorter or spectra smaller than what the layers see are filled with silence.
        missing = (max(0, _least(1) - amplitude.shape[-1]), max(0, _least(0) - amplitude.shape[-2]))
        padded = nn.functional.pad(amplitude, (0, missing[0], 0, missing[1]))
        scores: Tensor = self.layers(padded.unsqueeze(1))
        return scores.squeeze(1)


def _least(axis: int) -> int:
    """Extent that gives one score."""
    size = 1
    for _ in _CHANNELS:
        size = (size - 1) * _STRIDE[axis] + _KERNEL[axis]
    return size


def discriminator_loss(discriminator: Discriminator, clean: Tensor, estimate: Tensor) -> Tensor:
    """(D(clean) - 1)² + D(estimate)²; no gradient reaches the system.

    Args:
        discriminator: The adversary.
        clean: Compressed amplitudes of clean speech of anyone `(B, F, N)`.
        estimate: Compressed amplitudes of what the system gives `(B', F, N)`.

    Returns:
        Scalar, at least 0.
    """
    real, fake = discriminator(clean.detach()), discriminator(estimate.detach())
    loss: Tensor = (real - 1.0).square().mean() + fake.square().mean()
    return loss


def adversarial_loss(discriminator: Discriminator, estimate: Tensor) -> Tensor:
    """(D(estimate) - 1)²; no gradient reaches the adversary.

    Args:
        discriminator: The adversary.
        estimate: Compressed amplitudes of what the system gives `(B, F, N)`.

    Returns:
        Scalar, at least 0.
    """
    fixed = {
        name: value.detach() for name, value in (*discriminator.named_parameters(), *discriminator.named_buffers())
    }
    score: Tensor = functional_call(discriminator, fixed, (estimate,))
    loss: Tensor = (score - 1.0).square().mean()
    return loss
