"""Layers that can be run in pieces: convolutions over time with an explicit past."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Past:
    """Frames that layers have seen, in the order in which the layers ask for them.

    One forward pass walks through the layers in a fixed order, so a list is all the state there is. Without given
    states every past is silent (zeros), which is how a signal begins.

    The N frames of B signals may also come as a batch of single frames, `(B N, C, 1)`. Layers without a past do not see
    the difference, and the others undo it.

    Args:
        states: What `next` held after the frames before, or None at the beginning.
        single: B and N of single frames, which need `states`; None for signals.

    Attributes:
        room: What of the room is to be kept, `(B, 2, 1)`, for layers that ask for it; see `engine.metadata.ROOMS`.
    """

    def __init__(self, states: Sequence[Tensor] | None = None, single: tuple[int, int] | None = None) -> None:
        self._states = None if states is None else list(states)
        self._single = single
        self.next: list[Tensor] = []
        self.room: Tensor | None = None

    def counts(self, frames: Tensor) -> tuple[int, int]:
        """Say how many signals and frames there are.

        Args:
            frames: `(B, N, ...)` or single frames `(B N, 1, ...)`.

        Returns:
            B and N.
        """
        return (frames.shape[0], frames.shape[1]) if self._single is None else self._single

    def by_signal(self, frames: Tensor) -> Tensor:
        """Put single frames together.

        Args:
            frames: `(B, C, N)` or single frames `(B N, C, 1)`.

        Returns:
            `(B, C, N)`.
        """
        if self._single is None:
            return frames
        return frames.reshape(*self._single, frames.shape[1]).transpose(1, 2)

    def by_frame(self, signals: Tensor) -> Tensor:
        """Undo `by_signal`.

        Args:
            signals: `(B, C, N)`.

        Returns:
            The same, or single frames `(B N, C, 1)`.
        """
        if self._single is None:
            return signals
        batch, count = self._single
        return signals.transpose(1, 2).reshape(batch * count, signals.shape[1], 1)

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

    def before(self, frames: Tensor) -> Tensor:
        """Give the frame before each, and remember the last one.

        Args:
            frames: `(B, C, N)` or single frames.

        Returns:
            Frames of the same shape.
        """
        # With the channels last, every frame is copied at once.
        rows = frames.transpose(1, 2)
        signals = rows.reshape(*self.counts(rows), rows.shape[2])
        joined = torch.cat([self.recall(signals, rows.shape[2]).transpose(1, 2), signals], dim=1)
        self.remember(joined[:, -1:].transpose(1, 2))
        return joined[:, :-1].reshape(rows.shape).transpose(1, 2)

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


def pooled(frames: Tensor, horizon: int, past: Past) -> tuple[Tensor, Tensor]:
    """Mean over the last `horizon` frames, in which the time before the beginning counts as silence.

    Args:
        frames: `(B, C, N)`.
        horizon: Number of frames.
        past: What the layer has seen.

    Returns:
        The mean `(B, C, N)`, and the share of the horizon that has been seen `(B, 1, N)`: the mean over the frames that
        there are is the first divided by the second.
    """
    # A row of ones tells frames from the silence before the beginning.
    counted = torch.cat([frames, torch.ones_like(frames[:, :1])], dim=1)
    means = nn.functional.avg_pool1d(past.extend(counted, horizon - 1), horizon, stride=1)
    return means[:, :-1], means[:, -1:]


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
        if self.history == 0:
            convolved: Tensor = self.conv(frames)
            return convolved
        return past.by_frame(self.conv(past.extend(past.by_signal(frames), self.history)))


class ConvBlock(nn.Module):
    """Convolution, normalisation and activation.

    Args:
        inputs: Channels in.
        outputs: Channels out.
        kernel: Taps.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 1) -> None:
        super().__init__()
        self.conv = FrameConv(inputs, outputs, kernel)
        self.norm = ChannelNorm(outputs)
        self.activation = nn.PReLU(outputs)

    def forward(self, frames: Tensor, past: Past) -> Tensor:
        """Map `(B, inputs, N)` to `(B, outputs, N)`."""
        active: Tensor = self.activation(self.norm(self.conv(frames, past)))
        return active
