"""The network that is attacked: who of a few speakers a clip is of."""

from collections.abc import Sequence
from itertools import pairwise

import librosa
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

_WINDOW, _HOP, _BANDS, _WIDTH, _KERNEL = 400, 160, 64, 128, 5
_TINY = 1e-6
_RATE, _CLIPS = 1e-3, 32
_NOISE_DB = (10.0, 40.0)
"""Ratios of the white noise on half of the clips of a training."""


class SpeakerNetwork(nn.Module):
    """Speaker identification: log mel spectra, convolutions along time, mean and deviation over time.

    Args:
        speakers: Number of speakers.
        sample_rate: Rate in Hz.
    """

    def __init__(self, speakers: int, sample_rate: int) -> None:
        super().__init__()
        self._bands = torch.from_numpy(librosa.filters.mel(sr=sample_rate, n_fft=_WINDOW, n_mels=_BANDS))
        self._window = torch.hann_window(_WINDOW)
        widths = (_BANDS, _WIDTH, _WIDTH, _WIDTH)
        self.stack = nn.Sequential(
            *(
                nn.Sequential(nn.Conv1d(before, after, _KERNEL), nn.ReLU(), nn.BatchNorm1d(after))
                for before, after in pairwise(widths)
            )
        )
        self.output = nn.Linear(2 * _WIDTH, speakers)

    def forward(self, waveforms: Tensor) -> Tensor:
        """Tell speakers apart, whatever the level.

        Args:
            waveforms: Samples `(B, T)`.

        Returns:
            Logits `(B, speakers)`.
        """
        level = waveforms.square().mean(dim=1, keepdim=True).sqrt() + _TINY
        spectra = torch.stft(waveforms / level, _WINDOW, _HOP, window=self._window, return_complex=True)
        power = spectra.real.square() + spectra.imag.square()
        features = self.stack(torch.log(self._bands @ power + _TINY))
        logits: Tensor = self.output(torch.cat([features.mean(dim=-1), features.std(dim=-1)], dim=1))
        return logits


def train_speakers(
    tracks: Sequence[NDArray[np.float32]], samples: int, sample_rate: int, steps: int, seed: int
) -> SpeakerNetwork:
    """Train a network on random clips, half of them with a little white noise.

    Args:
        tracks: Speech of each speaker, `(T,)`, longer than a clip.
        samples: Length of a clip.
        sample_rate: Rate in Hz.
        steps: Steps of `_CLIPS` clips each.
        seed: Of the weights and of all draws.

    Returns:
        The network in evaluation mode, with frozen weights.
    """
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = SpeakerNetwork(len(tracks), sample_rate)
    optimiser = torch.optim.Adam(network.parameters(), lr=_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4 * _RATE, total_steps=steps)
    for _ in range(steps):
        chosen = rng.integers(len(tracks), size=_CLIPS)
        clips = []
        for speaker in chosen:
            start = rng.integers(tracks[speaker].size - samples + 1)
            clip = tracks[speaker][start : start + samples]
            if rng.random() < 0.5:
                size = np.sqrt(np.mean(clip**2)) * 10 ** (-rng.uniform(*_NOISE_DB) / 20)
                clip = clip + size * rng.standard_normal(samples)
            clips.append(clip.astype(np.float32))
        loss = nn.functional.cross_entropy(network(torch.from_numpy(np.stack(clips))), torch.from_numpy(chosen))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return network.eval().requires_grad_(False)
