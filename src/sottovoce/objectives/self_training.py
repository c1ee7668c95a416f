"""New pairs from the system's own estimates: the recordings' speech and noise, taken apart and dealt anew.

A teacher, which is a slow average of the student, takes every recording apart into speech and the rest. The rests go to
other recordings and to clean speech, and the student has to find the speech in what this makes. So speech of the place,
in its rooms, and noise that never stands alone are learned from as well.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from sottovoce.models.blocks import Past
from sottovoce.models.joint import JointAutoencoder

_TINY = 1e-6


class Remixed(NamedTuple):
    """Mixtures made anew, and what is known of their speech.

    Attributes:
        mixtures: Samples `(B, T)`.
        targets: The teacher's estimates, or clean speech, `(B, T)`.
        trust: How far a target is to be believed, 0 to 1, `(B,)`.
    """

    mixtures: Tensor
    targets: Tensor
    trust: Tensor


@torch.no_grad()
def remix(teacher: JointAutoencoder, mixtures: Tensor, clean: Tensor) -> Remixed:
    """Take recordings apart and give each one's rest to the next one, and to clean speech.

    Args:
        teacher: The system that takes apart, in evaluation mode.
        mixtures: Noisy recordings `(M, T)`, two or more.
        clean: Clean speech with early sound `(K, T)`; the first M clips are used, none of them belongs to a recording.

    Returns:
        M remixed recordings, and as many pieces of clean speech as there are, up to M, with a rest.

    Source:
        Tzinis et al., "RemixIT: continual self-training of speech enhancement models via bootstrapped remixing" (2022).
        There all estimates count alike; here the speech autoencoder says how much they are like speech.
    """
    speech = teacher.enhance(mixtures)
    rest = (mixtures - speech).roll(1, dims=0)
    clean = clean[: len(mixtures)]
    # Recordings stand at any level: the rest keeps its ratio to the recording that it is from.
    known = torch.cat([speech, clean])
    levels = torch.cat([_rms(mixtures), _rms(clean)])
    rests = torch.cat([rest, rest[: len(clean)]])
    sources = torch.cat([_rms(mixtures).roll(1, dims=0), _rms(mixtures).roll(1, dims=0)[: len(clean)]])
    trust = torch.cat([speech_likeness(teacher, speech), clean.new_ones(len(clean))])
    return Remixed(known + rests * levels / (sources + _TINY), known, trust)


@torch.no_grad()
def speech_likeness(model: JointAutoencoder, waveform: Tensor) -> Tensor:
    """How well the speech autoencoder, which was trained on clean speech alone, gives a signal back.

    Args:
        model: The system.
        waveform: Samples `(B, T)`.

    Returns:
        Share of the compressed amplitude's power that comes back, 0 to 1, `(B,)`; 0 for silence.
    """
    spectra = model.stft.analyse(waveform)
    scaled = spectra / model.level(spectra, Past())
    target = model.compressed(scaled)
    error = (model.decode_speech(model.encode_speech(scaled)).amplitude - target).square().mean(dim=(1, 2))
    heard = waveform.square().mean(dim=1) > _TINY**2
    return (1.0 - error / (target.square().mean(dim=(1, 2)) + _TINY)).clamp(0.0, 1.0) * heard


def _rms(waveform: Tensor) -> Tensor:
    return torch.sqrt(waveform.square().mean(dim=1, keepdim=True))
