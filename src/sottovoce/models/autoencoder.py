"""Encoders and decoders of the two autoencoders, blocks to networks top-down."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sottovoce.config import BandSettings, ConvolutionSettings, FrontendSettings, ModelSettings, TemporalSettings
from sottovoce.models.bands import BandMask, BandStack
from sottovoce.models.blocks import ChannelNorm, ConvBlock, FrameConv, GatedBlock, Past


def aligned(layer: Callable[[Tensor, Past], Tensor], frames: Tensor, delay: int) -> Tensor:
    """Run a layer over a whole signal and take its delay away: the input is padded, never the layers.

    Args:
        layer: Network that lags by `delay` frames.
        frames: `(B, C, N)`.
        delay: Frames.

    Returns:
        `(B, C', N)`, aligned to the input.
    """
    return layer(nn.functional.pad(frames, (0, delay)), Past())[..., delay:]


class ConvStack(nn.Module):
    """Plain stack of convolutions over time, frequency bins as channels, with the system's norm and activation.

    Args:
        inputs: Channels in.
        settings: Widths and kernel.
        model: The system's settings.
        equalise_horizon: Frames of the equaliser behind every layer; None for none.
    """

    def __init__(
        self, inputs: int, settings: ConvolutionSettings, model: ModelSettings, equalise_horizon: int | None
    ) -> None:
        super().__init__()
        widths = (inputs, *settings.widths)
        self.blocks = nn.ModuleList(
            ConvBlock(
                a,
                b,
                settings.kernel,
                normalisation=model.normalisation,
                activation=model.activation,
                equalise_horizon=equalise_horizon,
            )
            for a, b in itertools.pairwise(widths)
        )
        self.width = widths[-1]
        self.delay = 0 if model.causal else len(settings.widths) * ((settings.kernel - 1) // 2)

    def forward(self, frames: Tensor, past: Past) -> Tensor:
        """Map `(B, inputs, N)` to `(B, width, N)`."""
        for block in self.blocks:
            frames = block(frames, past)
        return frames


class TemporalStack(nn.Module):
    """Residual stack of gated dilated convolutions between a linear input layer and a normalised output.

    Args:
        inputs: Channels in.
        settings: Width, dilations and kernel.
        causal: Whether it sees the past only.
    """

    def __init__(self, inputs: int, settings: TemporalSettings, causal: bool) -> None:
        super().__init__()
        self.input = FrameConv(inputs, settings.width)
        self.blocks = nn.ModuleList(GatedBlock(settings.width, settings.kernel, d) for d in settings.dilations)
        self.norm = ChannelNorm(settings.width)
        self.width = settings.width
        self.delay = 0 if causal else sum(d * ((settings.kernel - 1) // 2) for d in settings.dilations)

    def forward(self, frames: Tensor, past: Past) -> Tensor:
        """Map `(B, inputs, N)` to `(B, width, N)`."""
        frames = self.input(frames, past)
        for block in self.blocks:
            frames = block(frames, past)
        normalised: Tensor = self.norm(frames)
        return normalised


class Encoder(nn.Module):
    """Feature maps to features of its own, and from these to the latent that the shared layer takes.

    Args:
        inputs: Channels of the feature maps.
        frontend: Which bins the maps are of.
        settings: The stack.
        model: The system's settings.
        equalise_horizon: Frames of the equaliser; None for none.
    """

    def __init__(
        self,
        inputs: int,
        frontend: FrontendSettings,
        settings: ConvolutionSettings | TemporalSettings | BandSettings,
        model: ModelSettings,
        equalise_horizon: int | None,
    ) -> None:
        super().__init__()
        self.stack: ConvStack | TemporalStack | BandStack
        if isinstance(settings, BandSettings):
            self.stack = BandStack(inputs // frontend.bins, frontend, settings)
        elif isinstance(settings, TemporalSettings):
            self.stack = TemporalStack(inputs, settings, model.causal)
        else:
            self.stack = ConvStack(inputs, settings, model, equalise_horizon)
        self.width = self.stack.width
        self.delay = self.stack.delay
        # The poster's stacks end in the latent's width themselves.
        self.latent = None if self.width == model.latent else FrameConv(self.width, model.latent)

    def forward(self, maps: Tensor, past: Past) -> tuple[Tensor, Tensor]:
        """Encode.

        Args:
            maps: `(B, inputs, N)`.
            past: What the layers have seen.

        Returns:
            Features `(B, width, N)` and latent `(B, D, N)`, both lagging by `delay`.
        """
        features = self.stack(maps, past)
        return features, features if self.latent is None else self.latent(features, past)


class Decoder(nn.Module):
    """A stack of convolutions and a linear output layer.

    Args:
        inputs: Channels of the latent.
        outputs: Channels out.
        settings: The stack in front of the output layer.
        model: The system's settings.
    """

    def __init__(self, inputs: int, outputs: int, settings: ConvolutionSettings, model: ModelSettings) -> None:
        super().__init__()
        self.stack = ConvStack(inputs, settings, model, None)
        self.output = FrameConv(self.stack.width, outputs, settings.kernel)
        self.delay = self.stack.delay + (0 if model.causal else (settings.kernel - 1) // 2)

    def forward(self, latent: Tensor, past: Past) -> Tensor:
        """Decode `(B, inputs, N)` to `(B, outputs, N)`, lagging by `delay`."""
        decoded: Tensor = self.output(self.stack(latent, past), past)
        return decoded


class AmplitudeDecoder(Decoder):
    """Latent to compressed amplitude, A^p.

    The value under the power is what the losses compare, so it is decoded directly: the power of a softplus would have
    an infinite slope where the amplitude is small.
    """

    def forward(self, latent: Tensor, past: Past) -> Tensor:
        """Decode `(B, inputs, N)` to A^p `(B, F, N)`, at least 0, lagging by `delay`."""
        return nn.functional.softplus(super().forward(latent, past))


class PhaseDecoder(Decoder):
    """Latent to unit phasors.

    The predecessor passed phase through softplus and a power, so that it could be neither negative nor right. Cosine
    and sine wrap by themselves; as a correction of the input's phase they begin at no correction.

    Args:
        inputs: Channels of the latent.
        bins: Bins of the longest window.
        settings: The stack in front of the output layer.
        model: The system's settings.
    """

    def __init__(self, inputs: int, bins: int, settings: ConvolutionSettings, model: ModelSettings) -> None:
        super().__init__(inputs, 2 * bins, settings, model)
        _begin_at_one(self.output, bins)

    def forward(self, latent: Tensor, past: Past) -> Tensor:
        """Decode `(B, inputs, N)` to cosine and sine `(B, 2 F, N)`, cosines first, lagging by `delay`."""
        cosine, sine = _halves(super().forward(latent, past))
        size = torch.sqrt(cosine.square() + sine.square() + 1e-8)
        return torch.cat([cosine / size, sine / size], dim=1)


def _halves(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Both halves of the channels. Slices, and not chunks, which the exporter would put into a list."""
    half = rows.shape[1] // 2
    return rows[:, :half], rows[:, half:]


def _begin_at_one(output: FrameConv, bins: int) -> None:
    """Let a layer of real and imaginary parts begin near 1 + 0i."""
    bias = output.conv.bias
    if bias is not None:
        with torch.no_grad():
            bias[:bins] += 1.0


class TemporalMask(nn.Module):
    """Real and imaginary part of a mask from a residual stack of dilated convolutions.

    Args:
        inputs: Channels of the mixture encoder's features.
        bins: Bins of the longest window.
        settings: The stack.
        causal: Whether it sees the past only.
    """

    def __init__(self, inputs: int, bins: int, settings: TemporalSettings, causal: bool) -> None:
        super().__init__()
        self.stack = TemporalStack(inputs + bins, settings, causal)
        self.output = FrameConv(self.stack.width, 2 * bins)
        self.delay = self.stack.delay
        _begin_at_one(self.output, bins)

    def forward(self, features: Tensor, guide: Tensor, past: Past) -> Tensor:
        """Map `(B, inputs, N)` and `(B, F, N)` to real and imaginary parts `(B, 2, F, N)`, lagging by `delay`."""
        rows = self.output(self.stack(torch.cat([features, guide], dim=1), past), past)
        return torch.stack(_halves(rows), dim=1)


class MaskDecoder(nn.Module):
    """Complex mask on the mixture from its features, guided by what D_A takes for the speech in it.

    The mask is bounded: its modulus is below 1, so the output never exceeds the mixture and is silent where the mixture
    is. Decoding from a narrow latent alone has a low ceiling; a mask keeps the detail that is in the recording.

    Args:
        inputs: Channels of the mixture encoder's features.
        frontend: Which bins the mask is for.
        settings: The network.
        causal: Whether it sees the past only.
    """

    def __init__(
        self, inputs: int, frontend: FrontendSettings, settings: TemporalSettings | BandSettings, causal: bool
    ) -> None:
        super().__init__()
        self.network: TemporalMask | BandMask
        if isinstance(settings, BandSettings):
            self.network = BandMask(frontend, settings)
        else:
            self.network = TemporalMask(inputs, frontend.bins, settings, causal)
        self.delay = self.network.delay

    def forward(self, features: Tensor, guide: Tensor, past: Past) -> Tensor:
        """Mask.

        Args:
            features: Of the mixture encoder, `(B, inputs, N)`.
            guide: Compressed amplitude of the speech after D_A, `(B, F, N)`.
            past: What the layers have seen.

        Returns:
            Real and imaginary parts `(B, 2, F, N)`, modulus below 1, lagging by `delay`.
        """
        unbounded: Tensor = self.network(features, guide, past)
        size = torch.sqrt(unbounded.square().sum(dim=1, keepdim=True) + 1e-8)
        return unbounded * (torch.tanh(size) / size)


@dataclass(frozen=True)
class DecodedSpeech:
    """What the speech decoders give.

    Attributes:
        amplitude: Compressed amplitude A^p `(B, F, N)`.
        phasors: Cosine and sine of the phase `(B, 2, F, N)`: absolute, or a correction of the input's.
    """

    amplitude: Tensor
    phasors: Tensor | None
