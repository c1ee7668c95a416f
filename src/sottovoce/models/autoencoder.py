"""Encoders and decoders of the two autoencoders, blocks to networks top-down."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from sottovoce.config import ConvolutionSettings
from sottovoce.models.blocks import ConvBlock, FrameConv, Past

Block = Callable[[int, int, int], nn.Module]
"""Makes a layer of given inputs, outputs and kernel."""


class ConvStack(nn.Module):
    """Plain stack of convolutions over time, frequency bins as channels.

    Args:
        inputs: Channels in.
        settings: Widths and kernel.
        block: Makes a layer.
    """

    def __init__(self, inputs: int, settings: ConvolutionSettings, block: Block = ConvBlock) -> None:
        super().__init__()
        widths = (inputs, *settings.widths)
        self.blocks = nn.ModuleList(block(a, b, settings.kernel) for a, b in pairwise(widths))

    def forward(self, frames: Tensor, past: Past) -> Tensor:
        """Map `(B, inputs, N)` to `(B, width, N)`."""
        for block in self.blocks:
            frames = block(frames, past)
        return frames


class Encoder(nn.Module):
    """Feature maps to features of its own, and from these to the latent that the shared layer takes.

    Args:
        stack: From feature maps to features.
        width: Channels of the features.
        latent: Channels of the latent; where they are as many, the features are the latent.
    """

    def __init__(self, stack: nn.Module, width: int, latent: int) -> None:
        super().__init__()
        self.stack = stack
        self.latent = None if width == latent else FrameConv(width, latent)

    def forward(self, maps: Tensor, past: Past) -> tuple[Tensor, Tensor]:
        """Encode.

        Args:
            maps: `(B, inputs, N)`.
            past: What the layers have seen.

        Returns:
            Features `(B, width, N)` and latent `(B, D, N)`.
        """
        features = self.stack(maps, past)
        return features, features if self.latent is None else self.latent(features, past)


class Decoder(nn.Module):
    """A stack of convolutions and a linear output layer.

    Args:
        inputs: Channels of the latent.
        outputs: Channels out.
        settings: The stack in front of the output layer.
        block: Makes a layer of the stack.
    """

    def __init__(self, inputs: int, outputs: int, settings: ConvolutionSettings, block: Block = ConvBlock) -> None:
        super().__init__()
        self.stack = ConvStack(inputs, settings, block)
        self.output = FrameConv(settings.widths[-1], outputs, settings.kernel)

    def forward(self, latent: Tensor, past: Past) -> Tensor:
        """Decode `(B, inputs, N)` to `(B, outputs, N)`."""
        decoded: Tensor = self.output(self.stack(latent, past), past)
        return decoded


class AmplitudeDecoder(Decoder):
    """Latent to compressed amplitude, A^p.

    The value under the power is what the losses compare, so it is decoded directly: the power of a softplus would have
    an infinite slope where the amplitude is small.
    """

    def forward(self, latent: Tensor, past: Past) -> Tensor:
        """Decode `(B, inputs, N)` to A^p `(B, F, N)`, at least 0."""
        return nn.functional.softplus(super().forward(latent, past))


class PhaseDecoder(Decoder):
    """Latent to unit phasors.

    The predecessor passed phase through softplus and a power, so that it could be neither negative nor right. Cosine
    and sine wrap by themselves; as a correction of the input's phase they begin at no correction.

    Args:
        inputs: Channels of the latent.
        bins: Bins of the spectrum.
        settings: The stack in front of the output layer.
        block: Makes a layer of the stack.
    """

    def __init__(self, inputs: int, bins: int, settings: ConvolutionSettings, block: Block = ConvBlock) -> None:
        super().__init__(inputs, 2 * bins, settings, block)
        begin_at_one(self.output)

    def forward(self, latent: Tensor, past: Past) -> Tensor:
        """Decode `(B, inputs, N)` to cosine and sine `(B, 2, F, N)`."""
        cosine, sine = halves(super().forward(latent, past))
        size = torch.sqrt(cosine.square() + sine.square() + 1e-8)
        return torch.stack([cosine / size, sine / size], dim=1)


def halves(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Both halves of the channels of `(B, 2 F, N)`, such as real and imaginary parts."""
    half = rows.shape[1] // 2
    return rows[:, :half], rows[:, half:]


def begin_at_one(output: FrameConv) -> None:
    """Let a layer of real and imaginary parts begin near 1 + 0i."""
    bias = output.conv.bias
    if bias is not None:
        with torch.no_grad():
            bias[: len(bias) // 2] += 1.0


class MaskDecoder(nn.Module):
    """Complex mask on the mixture from its features, guided by what D_A takes for the speech in it.

    The mask is bounded: its modulus is below 1, so the output never exceeds the mixture and is silent where the mixture
    is. Decoding from a narrow latent alone has a low ceiling; a mask keeps the detail that is in the recording.

    Args:
        network: From features `(B, inputs, N)` and guide `(B, F, N)` to real and imaginary parts `(B, 2, F, N)`.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor, guide: Tensor, past: Past) -> Tensor:
        """Mask.

        Args:
            features: Of the mixture encoder, `(B, inputs, N)`.
            guide: Compressed amplitude of the speech after D_A, `(B, F, N)`.
            past: What the layers have seen.

        Returns:
            Real and imaginary parts `(B, 2, F, N)`, modulus below 1.
        """
        unbounded: Tensor = self.network(features, guide, past)
        size = torch.sqrt(unbounded.square().sum(dim=1, keepdim=True) + 1e-8)
        return unbounded * (torch.tanh(size) / size)


@dataclass(frozen=True)
class DecodedSpeech:
    """What the speech decoders give.

    Attributes:
        amplitude: Compressed amplitude A^p `(B, F, N)`.
        phasors: Cosine and sine of the phase `(B, 2, F, N)`: a correction of the input's.
    """

    amplitude: Tensor
    phasors: Tensor
