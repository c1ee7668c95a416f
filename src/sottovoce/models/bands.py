"""A recurrent backbone over bands of frequency: one small network per band and frame, its weights shared by all bands.

What a voice or a noise looks like in one band it looks like in the next one; a network that learns it once for all
bands needs less speech to learn from than one whose channels are the bins of the spectrum.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sottovoce.config import BandSettings, FrontendSettings
from sottovoce.engine.metadata import ROOMS
from sottovoce.models.blocks import Past

# Width of the bands below each frequency, in Hz: critical bands, roughly.
_WIDTHS_HZ = ((1000.0, 125.0), (2500.0, 250.0), (5000.0, 500.0), (math.inf, 1500.0))


@dataclass(frozen=True)
class BandGroup:
    """Neighbouring bands of one width.

    Attributes:
        start: First bin.
        width: Bins of each band.
        count: Number of bands.
    """

    start: int
    width: int
    count: int


def band_groups(bins: int, spacing_hz: float) -> tuple[BandGroup, ...]:
    """Divide the bins of a spectrum above 0 Hz into bands that widen with frequency.

    Args:
        bins: Bins from 0 Hz to half the rate, at least 2.
        spacing_hz: Distance of bins in Hz.

    Returns:
        Groups of bands without gaps or overlap; the bin of 0 Hz belongs to none.
    """
    groups = []
    start = 1
    for top_hz, width_hz in _WIDTHS_HZ:
        end = int(min(bins, 1 + top_hz / spacing_hz))
        width = min(max(1, round(width_hz / spacing_hz)), max(1, end - start))
        count = (end - start) // width
        if count > 0:
            groups.append(BandGroup(start, width, count))
            start += width * count
    if start < bins:
        groups.append(BandGroup(start, bins - start, 1))
    return tuple(groups)


class BandSplit(nn.Module):
    """Maps of a spectrum to a vector for every band, by weights of the band's own.

    Args:
        maps: Maps per bin.
        groups: The bands.
        width: Channels of a band.
    """

    def __init__(self, maps: int, groups: tuple[BandGroup, ...], width: int) -> None:
        super().__init__()
        self._maps = maps
        self._groups = groups
        self.weights = nn.ParameterList(
            torch.randn(group.count, maps * group.width, width) / math.sqrt(maps * group.width) for group in groups
        )
        self.bias = nn.Parameter(torch.zeros(sum(group.count for group in groups), width))

    def forward(self, frames: Tensor) -> Tensor:
        """Map `(B, maps * F, N)` to `(B, N, Q, width)`."""
        batch, rows, count = frames.shape
        # Runtimes move one axis fast, and two at once value by value.
        by_bin = frames.transpose(1, 2).reshape(batch * count, self._maps, rows // self._maps).transpose(1, 2)
        bands = []
        for group, weight in zip(self._groups, self.weights, strict=True):
            part = by_bin[:, group.start : group.start + group.width * group.count]
            part = part.reshape(batch * count, group.count, group.width * self._maps)
            bands.append(torch.bmm(part.transpose(0, 1), weight))
        joined = torch.cat(bands).transpose(0, 1) + self.bias
        return joined.reshape(batch, count, *self.bias.shape)


class BandMerge(nn.Module):
    """A vector for every band to maps of a spectrum; the bin of 0 Hz takes what its neighbour gets.

    Args:
        width: Channels of a band.
        groups: The bands.
        maps: Maps per bin.
    """

    def __init__(self, width: int, groups: tuple[BandGroup, ...], maps: int) -> None:
        super().__init__()
        self._maps = maps
        self._groups = groups
        # A third of the usual deviation: masks begin near their bias.
        self.weights = nn.ParameterList(
            torch.randn(group.count, width, maps * group.width) / (3 * math.sqrt(width)) for group in groups
        )
        self.bias = nn.Parameter(torch.zeros(maps, sum(group.count * group.width for group in groups)))

    def forward(self, bands: Tensor) -> Tensor:
        """Map `(B, N, Q, width)` to `(B, maps, F, N)`."""
        batch, frames = bands.shape[:2]
        by_band = bands.flatten(0, 1).transpose(0, 1)
        parts, first = [], 0
        for group, weight in zip(self._groups, self.weights, strict=True):
            part = torch.bmm(by_band[first : first + group.count], weight)
            first += group.count
            parts.append(part.transpose(0, 1).reshape(batch * frames, group.count * group.width, self._maps))
        maps = torch.cat(parts, dim=1).transpose(1, 2) + self.bias
        with_0_hz = torch.cat([maps[:, :, :1], maps], dim=2)
        return with_0_hz.reshape(batch, frames, self._maps, with_0_hz.shape[-1]).permute(0, 2, 3, 1)


class BandBlock(nn.Module):
    """Two residual steps: a recurrent layer along time, shared by all bands, and a mixture of the bands of one frame.

    Args:
        width: Channels of a band.
        bands: Number of bands.
        room_choice: Whether it is given what of the room to keep.

    Source:
        Luo and Yu, "Music source separation with band-split RNN" (2023): recurrence along time and along bands. Here
        the bands are mixed by two linear layers (Tolstikhin et al., "MLP-Mixer", 2021), which cost less. Perez et al.,
        "FiLM: visual reasoning with a general conditioning layer" (2018), for the choice of the room.
    """

    def __init__(self, width: int, bands: int, room_choice: bool = False) -> None:
        super().__init__()
        self.time_norm = nn.LayerNorm(width)
        self.recurrence = nn.GRU(width, width)
        self.time_output = nn.Linear(width, width)
        self.band_norm = nn.LayerNorm(width)
        self.band_input = nn.Linear(bands, 2 * bands)
        self.band_output = nn.Linear(2 * bands, bands)
        self.channel_output = nn.Linear(width, width)
        self.room = nn.Linear(len(ROOMS["natural"]), 2 * width, bias=False) if room_choice else None
        if self.room is not None:
            nn.init.zeros_(self.room.weight)  # the choice makes no difference before it is learned

    def forward(self, bands: Tensor, past: Past) -> Tensor:
        """Map `(B, N, Q, width)`, or single frames, to the same shape."""
        (batch, frames), (count, width) = past.counts(bands), bands.shape[2:]
        normalised = self.time_norm(bands).reshape(batch, frames, count, width)
        if self.room is not None and past.room is not None:
            scale, offset = self.room(past.room.transpose(1, 2)).unsqueeze(1).chunk(2, dim=-1)
            normalised = normalised * (1 + scale) + offset
        along_time = normalised.transpose(0, 1).reshape(frames, batch * count, width)
        state = past.recall(bands, count * width).reshape(1, batch * count, width)
        recurrent, state = self.recurrence(along_time, state)
        past.remember(state.reshape(batch, count * width, 1))
        along_time = self.time_output(recurrent).reshape(frames, batch, count, width).transpose(0, 1)
        bands = bands + along_time.reshape(bands.shape)
        across = self.band_norm(bands).transpose(2, 3)
        across = self.band_output(nn.functional.silu(self.band_input(across))).transpose(2, 3)
        mixed: Tensor = bands + self.channel_output(across)
        return mixed

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of one frame."""
        bands, width = self.band_input.in_features, self.recurrence.hidden_size
        # For every band three gates of two products and two linear layers; for every channel two layers across bands.
        return bands * (6 * width**2 + 2 * width**2) + width * 4 * bands**2


class BandStack(nn.Module):
    """Blocks on the bands of a spectrum's maps.

    Args:
        maps: Maps per bin.
        frontend: Which bins the spectrum has.
        settings: Width and number of blocks.
        room_choice: Whether blocks are given what of the room to keep.
    """

    def __init__(
        self, maps: int, frontend: FrontendSettings, settings: BandSettings, room_choice: bool = False
    ) -> None:
        super().__init__()
        groups = band_groups(frontend.bins, frontend.bin_spacing_hz)
        bands = sum(group.count for group in groups)
        self.split = BandSplit(maps, groups, settings.width)
        self.blocks = nn.ModuleList(BandBlock(settings.width, bands, room_choice) for _ in range(settings.blocks))
        self.norm = nn.LayerNorm(settings.width)
        self.width = bands * settings.width

    def forward(self, frames: Tensor, past: Past) -> Tensor:
        """Map `(B, maps * F, N)` to `(B, Q * width, N)`, bands one after another."""
        bands = self.split(frames)
        for block in self.blocks:
            bands = block(bands, past)
        normalised: Tensor = self.norm(bands)
        return normalised.flatten(2).transpose(1, 2)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of one frame."""
        return _multiply_adds(self.split, *self.blocks)


class BandMask(nn.Module):
    """Real and imaginary part of a mask from the features of a `BandStack` and a guiding amplitude.

    Args:
        frontend: Which bins the spectrum has.
        settings: Width and number of blocks; the width is that of the features.
        room_choice: Whether blocks are given what of the room to keep.
    """

    def __init__(self, frontend: FrontendSettings, settings: BandSettings, room_choice: bool = False) -> None:
        super().__init__()
        groups = band_groups(frontend.bins, frontend.bin_spacing_hz)
        self._bands = sum(group.count for group in groups)
        self.guide = BandSplit(1, groups, settings.width)
        self.blocks = nn.ModuleList(BandBlock(settings.width, self._bands, room_choice) for _ in range(settings.blocks))
        self.norm = nn.LayerNorm(settings.width)
        self.gate = nn.Linear(settings.width, 2 * settings.width)
        self.merge = BandMerge(settings.width, groups, 2)
        with torch.no_grad():
            self.merge.bias[0] += 1.0

    def forward(self, features: Tensor, guide: Tensor, past: Past) -> Tensor:
        """Map `(B, Q * width, N)` and `(B, F, N)` to real and imaginary parts `(B, 2, F, N)`, near 1 at first."""
        bands = self.guide(guide)
        bands = bands + features.transpose(1, 2).reshape(bands.shape)
        for block in self.blocks:
            bands = block(bands, past)
        merged: Tensor = self.merge(nn.functional.glu(self.gate(self.norm(bands)), dim=-1))
        return merged

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of one frame."""
        return _multiply_adds(self.guide, *self.blocks, self.merge) + self._bands * self.gate.weight.numel()


def _multiply_adds(*parts: nn.Module) -> int:
    """Multiply-adds of one frame; a split and a merge use every weight once."""
    total = 0
    for part in parts:
        if isinstance(part, BandSplit | BandMerge):
            total += sum(weight.numel() for weight in part.weights)
        elif isinstance(part, BandBlock):
            total += part.multiply_adds
    return total
