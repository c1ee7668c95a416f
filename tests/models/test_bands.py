"""The backbone on bands: its grid, its shapes, its past and its costs."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.config import BandSettings, FrontendSettings
from sottovoce.models.bands import BandMask, BandMerge, BandSplit, BandStack, band_groups
from sottovoce.models.blocks import Past

FRONTEND = FrontendSettings(window=64, hop=32, loss_windows=(64,))
SETTINGS = BandSettings(width=4, blocks=2)


def noise(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


@given(bins=st.integers(2, 1025), spacing_hz=st.floats(4.0, 500.0))
def test_bands_cover_every_bin_once(bins, spacing_hz):
    covered = []
    for group in band_groups(bins, spacing_hz):
        assert group.width >= 1
        assert group.count >= 1
        covered += range(group.start, group.start + group.width * group.count)
    assert covered == list(range(1, bins))


def test_bands_of_the_default_front_end():
    groups = band_groups(257, 31.25)
    assert [(group.width, group.count) for group in groups] == [(4, 8), (8, 6), (16, 5), (48, 2)]


def test_split_keeps_bands_apart():
    groups = band_groups(33, 250.0)
    split = BandSplit(2, groups, 4)
    still = noise(1, 2 * 33, 3)
    for bin_ in range(33):
        moved = still.clone()
        moved[:, [bin_, 33 + bin_]] += 1.0
        with torch.no_grad():
            changed = (split(moved) - split(still)).abs().amax(dim=(0, 1, 3)) > 0
        assert changed.sum() == (0 if bin_ == 0 else 1)


def test_merge_gives_back_every_bin():
    groups = band_groups(33, 250.0)
    bands = sum(group.count for group in groups)
    maps = BandMerge(4, groups, 2)(noise(2, 3, bands, 4))
    assert maps.shape == (2, 2, 33, 3)
    torch.testing.assert_close(maps[:, :, 0], maps[:, :, 1])


def test_merge_undoes_split_where_the_weights_do():
    groups = band_groups(33, 250.0)
    width = 2 * max(group.width for group in groups)
    split, merge = BandSplit(2, groups, width), BandMerge(width, groups, 2)
    with torch.no_grad():
        for there, back in zip(split.weights, merge.weights, strict=True):
            there.copy_(torch.eye(there.shape[1], width).expand_as(there))
            back.copy_(torch.eye(width, there.shape[1]).expand_as(back))
        maps = noise(2, 2, 33, 5)
        merged = merge(split(maps.flatten(1, 2)))
    torch.testing.assert_close(merged[:, :, 1:], maps[:, :, 1:])


def test_frames_in_pieces_give_the_same():
    stack, mask = BandStack(3, FRONTEND, SETTINGS), BandMask(FRONTEND, SETTINGS)
    maps, guide = noise(2, 3 * 33, 12), noise(2, 33, 12, seed=1)

    def run(maps, guide, past):
        return mask(stack(maps, past), guide, past)

    with torch.no_grad():
        whole = run(maps, guide, Past())
        states, pieces = None, []
        for start, end in ((0, 1), (1, 5), (5, 12)):
            past = Past(states)
            pieces.append(run(maps[..., start:end], guide[..., start:end], past))
            states = past.next
    torch.testing.assert_close(torch.cat(pieces, dim=-1), whole, rtol=1e-5, atol=1e-6)


def test_the_future_is_not_seen():
    stack = BandStack(3, FRONTEND, SETTINGS)
    maps = noise(1, 3 * 33, 10)
    changed = maps.clone()
    changed[..., 6:] = 0.0
    with torch.no_grad():
        torch.testing.assert_close(stack(maps, Past())[..., :6], stack(changed, Past())[..., :6])


def test_mask_begins_near_one_and_follows_the_guide():
    mask = BandMask(FRONTEND, SETTINGS)
    features = noise(1, mask.guide.bias.shape[0] * 4, 6)
    with torch.no_grad():
        one, other = (mask(features, guide, Past()) for guide in (noise(1, 33, 6), noise(1, 33, 6, seed=1)))
    assert (one - other).abs().max() > 1e-3
    assert abs(float(one[:, 0].mean()) - 1.0) < 0.2
    assert abs(float(one[:, 1].mean())) < 0.2


def test_multiply_adds_are_those_of_the_products():
    """Counted by hand for the smallest stack: products of the split, the recurrence and the mixture of bands."""
    settings = BandSettings(width=2, blocks=1)
    stack = BandStack(1, FRONTEND, settings)
    bands = stack.split.bias.shape[0]
    split = 32 * 2
    recurrence = bands * (3 * 2 * 2 + 3 * 2 * 2)
    outputs = bands * (2 * 2 + 2 * 2)
    across = 2 * (bands * 2 * bands + 2 * bands * bands)
    assert stack.multiply_adds == split + recurrence + outputs + across
