"""Layers with an explicit past: in pieces they give what they give at once."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sottovoce.models.blocks import ChannelNorm, ConvBlock, Equaliser, FrameConv, GatedBlock, Past, RunningMean

CHANNELS = 4


class Delay(torch.nn.Module):
    """`Past.delay` as a layer."""

    def forward(self, frames, past):
        """Delay by five frames."""
        return past.delay(frames, 5)


class Two(torch.nn.Module):
    """Two layers that share one past."""

    def __init__(self):
        super().__init__()
        self.first, self.second = GatedBlock(CHANNELS, 3, 2), FrameConv(CHANNELS, 3, 5)

    def forward(self, frames, past):
        """Run both."""
        return self.second(self.first(frames, past), past)


def conv_block(normalisation, activation, equalise_horizon=None):
    return ConvBlock(
        CHANNELS, 6, 3, normalisation=normalisation, activation=activation, equalise_horizon=equalise_horizon
    )


BLOCKS = {
    "pointwise": lambda: FrameConv(CHANNELS, 3),
    "convolution": lambda: FrameConv(CHANNELS, 3, 4),
    "dilated": lambda: FrameConv(CHANNELS, 3, 3, 4),
    "gated": lambda: GatedBlock(CHANNELS, 3, 2),
    "batch": lambda: conv_block("batch", "softplus"),
    "channel": lambda: conv_block("channel", "prelu"),
    "equalised": lambda: conv_block("batch", "softplus", 6),
    "mean": lambda: RunningMean(7),
    "mean of one": lambda: RunningMean(1),
    "delay": Delay,
    "two": Two,
}


def make(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return BLOCKS[name]().eval()


def noise(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


@pytest.mark.parametrize("name", BLOCKS)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=8))
def test_pieces_equal_the_whole(name, sizes):
    block = make(name)
    frames = noise(2, CHANNELS, sum(sizes))
    with torch.no_grad():
        whole = block(frames, Past())
        pieces, states = [], None
        for piece in frames.split(sizes, dim=-1):
            past = Past(states)
            pieces.append(block(piece, past))
            states = past.next
    torch.testing.assert_close(torch.cat(pieces, dim=-1), whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", BLOCKS)
def test_no_block_sees_the_future(name):
    block = make(name)
    frames = noise(1, CHANNELS, 20)
    other = torch.cat([frames[..., :12], noise(1, CHANNELS, 8, seed=1)], dim=-1)
    with torch.no_grad():
        first, second = block(frames, Past()), block(other, Past())
    torch.testing.assert_close(first[..., :12], second[..., :12])
    assert not torch.allclose(first, second)


@pytest.mark.parametrize("horizon", [1, 2, 5, 40])
def test_running_mean_is_the_mean_of_the_frames_there_are(horizon):
    frames = noise(2, 3, 30)
    expected = np.stack(
        [frames.numpy()[..., max(0, n + 1 - horizon) : n + 1].mean(axis=-1) for n in range(30)], axis=-1
    )
    np.testing.assert_allclose(RunningMean(horizon)(frames, Past()), expected, atol=1e-6)


def test_equaliser_divides_by_the_running_mean():
    frames = noise(1, 3, 30).exp()
    expected = frames / (RunningMean(4)(frames, Past()) + 1e-3)
    torch.testing.assert_close(Equaliser(4)(frames, Past()), expected)
    # What is multiplied by a constant comes out the same.
    torch.testing.assert_close(
        Equaliser(4)(1000 * frames, Past()), Equaliser(4)(100 * frames, Past()), rtol=1e-3, atol=0
    )


def test_delay_shifts_and_begins_with_silence():
    frames = noise(2, 3, 10)
    past = Past()
    delayed = past.delay(frames, 4)
    torch.testing.assert_close(delayed[..., 4:], frames[..., :6])
    assert not delayed[..., :4].any()
    torch.testing.assert_close(Past(past.next).delay(frames[..., :4], 4), frames[..., 6:])
    # A delay that is longer than the piece, and none.
    assert not Past().delay(frames, 11).any()
    torch.testing.assert_close(Past().delay(frames, 0), frames)


def test_past_keeps_only_what_will_be_needed():
    past = Past()
    FrameConv(CHANNELS, 3, 3, 4)(noise(1, CHANNELS, 50), past)
    FrameConv(CHANNELS, 3)(noise(1, CHANNELS, 50), past)
    assert [tuple(state.shape) for state in past.next] == [(1, CHANNELS, 8)]


def test_channel_norm_looks_at_one_frame():
    frames = 3 + 5 * noise(2, CHANNELS, 6)
    normalised = ChannelNorm(CHANNELS)(frames)
    torch.testing.assert_close(normalised.mean(dim=1), torch.zeros(2, 6), atol=1e-5, rtol=0)
    torch.testing.assert_close(normalised.var(dim=1, unbiased=False), torch.ones(2, 6), atol=1e-3, rtol=0)
    torch.testing.assert_close(ChannelNorm(CHANNELS)(frames[..., 2:3]), normalised[..., 2:3])


def test_gated_block_adds_to_its_input():
    block = make("gated")
    with torch.no_grad():
        block.conv.conv.weight.zero_()
        block.conv.conv.bias.zero_()
    frames = noise(1, CHANNELS, 5)
    torch.testing.assert_close(block(frames, Past()), frames)
