"""Layers with an explicit past: in pieces they give what they give at once."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sottovoce.models.blocks import ChannelNorm, ConvBlock, FrameConv, Past

CHANNELS = 4


class Two(torch.nn.Module):
    """Two layers that share one past."""

    def __init__(self):
        super().__init__()
        self.first, self.second = ConvBlock(CHANNELS, CHANNELS, 3), FrameConv(CHANNELS, 3, 5)

    def forward(self, frames, past):
        """Run both."""
        return self.second(self.first(frames, past), past)


BLOCKS = {
    "pointwise": lambda: FrameConv(CHANNELS, 3),
    "convolution": lambda: FrameConv(CHANNELS, 3, 4),
    "dilated": lambda: FrameConv(CHANNELS, 3, 3, 4),
    "block": lambda: ConvBlock(CHANNELS, 6, 3),
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
