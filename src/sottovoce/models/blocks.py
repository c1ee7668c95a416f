"""Layers that can be run in pieces: convolutions over time with an explicit past."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

Normalisation = Literal["batch", "channel"]
Activation = Literal["softplus", "prelu"]


class Past:
    """Frames that layers have seen, in the order in which the layers ask for them.

    One forward pass walks through the layers in a fixed order, so a list is all the state there is. Without given
    states every past is silent (zeros), which is how a signal begins.

    Args:
        states: What `next` held after the frames before, or None at the beginning.
    """

    def __init__(self, states: Sequence[Tensor] | None = None) -> None:
        self._states = None if states is None else list(states)
        self.next: list[Tensor] = []

    def extend(self, frames: Tensor, count: int) -> Tensor:
        """Put the last `count` frames of the past before `frames`, and remember the last `count` of both.

        Args:
            frames: `(B, C, N)`.
            count: Length of the past.

        Returns:
            `(B, C, count + N)`.
        """
        if count == 0:
            return frames
        if self._states is None:
            seen = frames.new_zeros(frames.shape[0], frames.shape[1], count)
        else:
            seen = self._states[len(self.next)]
        joined = torch.cat([seen, frames], dim=-1)
        self.next.append(joined[..., -count:])
        return joined

    def recall(self, frames: Tensor, channels: int) -> Tensor:
        """State that a recurrent layer left with `remember`; zeros at the beginning.

        Args:
            frames: What is about to be seen, for its batch and type, `(B, ...)`.
            channels: Size of the state.

        Returns:
            `(B, channels, 1)`.
        """
        if self._states is None:
            return frames.new_zeros(frames.shape[0], channels, 1)
        return self._states[len(self.next)]

    def remember(self, state: Tensor) -> None:
        """Keep the state of a recurrent layer, which has recalled its old one.

        Args:
            state: `(B, channels, 1)`.
        """
        self.next.append(state)

    def delay(self, frames: Tensor, count: int) -> Tensor:
        """Frames of `count` frames ago.

        Args:
            frames: `(B, C, N)`.
            count: Delay.

        Returns:
            `(B, C, N)`.
        """
        return self.extend(frames, count)[..., : frames.shape[-1]] if count else frames


class RunningMean(nn.Module):
    """Mean over the last `horizon` frames, or over those that there are.

    Args:
        horizon: Number of frames.
    """

    def __init__(self, horizon: int) -> None:
        super().__init__()
        self._horizon = horizon

    def forward(self, frames: Tensor, past: Past) -> Tensor:
        """Mean at every frame.

        Args:
            frames: `(B, C, N)`.
            past: What the layer has seen.

        Returns:
            `(B, C, N)`.
        """
        # A row of ones sets frames apart from the silence before the beginning.
        counted = torch.cat([frames, torch.ones_like(frames[:, :1])], dim=1)
        pooled = nn.functional.avg_pool1d(past.extend(counted, self._horizon - 1), self._horizon, stride=1)
        return pooled[:, :-1] / pooled[:, -1:]


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of one frame; nothing is shared over time.

    Args:
        channels: Number of channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, frames: Tensor) -> Tensor:
        """Normalise `(B, C, N)`."""
        normalised: Tensor = self.norm(frames.transpose(1, 2))
        return normalised.transpose(1, 2)


class FrameConv(nn.Module):
    """Convolution over time that sees the present and the past.

    A centred convolution is this one with a delay of `(kernel - 1) // 2 * dilation` frames: the input is padded at the
    end of a signal, the layer never.

    Args:
        inputs: Channels in.
        outputs: Channels out.
        kernel: Taps.
        dilation: Frames between taps.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, kernel, dilation=dilation)
        self.history = (kernel - 1) * dilation

    def forward(self, frames: Tensor, past: Past) -> Tensor:
        """Convolve `(B, inputs, N)` to `(B, outputs, N)`."""
        convolved: Tensor = self.conv(past.extend(frames, self.history))
        return convolved


class Equaliser(nn.Module):
    """Running-mean normalisation: every channel is divided by its own running mean.

    The predecessor's code divides by the mean over the whole clip, which needs the future; a mean of fixed horizon is
    trained and used in the same way.

    Args:
        horizon: Frames of the running mean.

    Source:
        Wang, Venkataramani and Smaragdis (2020), code of the encoder ("EQ").
    """

    def __init__(self, horizon: int) -> None:
        super().__init__()
        self._mean = RunningMean(horizon)

    def forward(self, frames: Tensor, past: Past) -> Tensor:
        """Equalise positive `(B, C, N)`."""
        mean: Tensor = self._mean(frames, past)
        return frames / (mean + 1e-3)


class ConvBlock(nn.Module):
    """Convolution, normalisation, activation and, in the poster's encoders, the equaliser.

    Args:
        inputs: Channels in.
        outputs: Channels out.
        kernel: Taps.
        normalisation: "batch" (folded into the convolution at export) or "channel".
        activation: "softplus" or "prelu".
        equalise_horizon: Frames of the equaliser's running mean; None for no equaliser.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        normalisation: Normalisation,
        activation: Activation,
        equalise_horizon: int | None = None,
    ) -> None:
        super().__init__()
        self.conv = FrameConv(inputs, outputs, kernel)
        self.norm: nn.Module = nn.BatchNorm1d(outputs) if normalisation == "batch" else ChannelNorm(outputs)
        self.activation: nn.Module = nn.Softplus() if activation == "softplus" else nn.PReLU(outputs)
        self.equaliser = None if equalise_horizon is None else Equaliser(equalise_horizon)

    def forward(self, frames: Tensor, past: Past) -> Tensor:
        """Map `(B, inputs, N)` to `(B, outputs, N)`."""
        active: Tensor = self.activation(self.norm(self.conv(frames, past)))
        if self.equaliser is not None:
            active = self.equaliser(active, past)
        return active


class GatedBlock(nn.Module):
    """Residual gated convolution: x + a(x) * sigmoid(b(x)), a and b dilated convolutions of the normalised input.

    Args:
        width: Channels.
        kernel: Taps.
        dilation: Frames between taps.

    Source:
        Gated linear units after Dauphin et al. (2017); dilated stacks after van den Oord et al. (2016).
    """

    def __init__(self, width: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(width)
        self.conv = FrameConv(width, 2 * width, kernel, dilation)

    def forward(self, frames: Tensor, past: Past) -> Tensor:
        """Map `(B, width, N)` to `(B, width, N)`."""
        return frames + nn.functional.glu(self.conv(self.norm(frames), past), dim=1)
