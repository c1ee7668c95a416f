"""The command `plot`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import tyro

from sottovoce import interruption, terminal
from sottovoce.cli.arguments import Output, refuse_existing
from sottovoce.errors import AudioError, ConfigError
from sottovoce.extras import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from sottovoce.metrics.latent_plots import LatentTrack
    from sottovoce.models.joint import JointAutoencoder

_ANIMATED = (".gif", ".webp")
# Beyond, points hide one another, and pictures of an animation take as many megabytes.
_LATENT_SECONDS, _ANIMATED_SECONDS = 120.0, 20.0

_Signal = tuple[str, "NDArray[np.float32]", int]


def plot(
    before: Annotated[Path, tyro.conf.arg(metavar="BEFORE")],
    after: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="AFTER")] = (),
    /,
    *,
    output: Output,
    mask: bool = False,
    latent: bool = False,
    model: str = "default",
    overwrite: bool = False,
) -> int:
    """Draw waveforms and spectrograms of recordings side by side, on shared scales.

    Of a recording with several channels the first is drawn. What cannot be read is named and left out, and the exit
    code is then 1.

    Example:
        sottovoce plot noisy.wav enhanced.wav -o picture.png
        sottovoce plot noisy.wav --mask -o mask.png
        sottovoce plot noisy.wav --latent -o latent.png
        sottovoce plot noisy.wav --latent -o walk.webp

    Args:
        before: A recording.
        after: More of them, e.g. enhanced by several models.
        output: Picture to write; the suffix chooses the format (.png, .pdf, .svg).
        mask: Draw what a model does to each recording: the gain in every bin, what is kept and what is removed.
        latent: Draw where each frame of a recording lies in the latent space of a model (the first 2 minutes), coloured
            by voicing, noise and signal-to-noise ratio; as .gif or .webp, an animated walk through it (the first 20 s).
            Needs the extra train.
        model: For --mask, a model as in `sottovoce enhance`. For --latent, a bundled model (default, live), the folder
            of a training or a checkpoint (.safetensors): an exported model has no latent.
        overwrite: Replace an existing picture.
    """
    require("metrics", "Plotting", "matplotlib")
    if latent and mask:
        raise ConfigError("found --latent and --mask, expected one of them: they are different pictures")
    if model != "default" and not (latent or mask):
        raise ConfigError("found --model without --latent or --mask, expected one of them: recordings need no model")
    animated = latent and output.suffix.lower() in _ANIMATED
    if animated and after:
        raise ConfigError(f"found {1 + len(after)} recordings for an animation, expected one: draw each by itself")
    if latent:
        require("train", "Drawing latents", "torch", "safetensors")
    refuse_existing(output, overwrite=overwrite)
    limit = None if not latent else _ANIMATED_SECONDS if animated else _LATENT_SECONDS
    signals, problems = _read((before, *after), limit)
    with interruption.ending_at_once():
        from sottovoce.metrics import latent_plots, plots

    if not latent:
        figure = _masks(signals, model) if mask else plots.recordings(signals)
        plots.save(figure, output, overwrite=overwrite)
        return 1 if problems else 0
    tracks, too_short = _tracks(signals, model)
    problems += too_short
    if animated:
        _, samples, rate = signals[0]
        pictures = latent_plots.latent_walk(tracks[0], samples, rate)
        speed = latent_plots.FRAMES_PER_SECOND
        plots.save_animation(pictures, output, pictures_per_second=speed, overwrite=overwrite)
    else:
        plots.save(latent_plots.latent_maps(tracks), output, overwrite=overwrite)
    return 1 if problems else 0


def _read(paths: tuple[Path, ...], limit_seconds: float | None) -> tuple[list[_Signal], list[AudioError]]:
    """First channels of recordings, of each at most its beginning, and what cannot be read, which is named."""
    from sottovoce.signal.audio import probe, read

    signals, problems = [], []
    for path in paths:
        try:
            found = probe(path)
            limited = limit_seconds is not None and found.seconds > limit_seconds
            waveform, rate = read(path, frames=round((limit_seconds or 0) * found.sample_rate) if limited else None)
        except AudioError as error:
            problems.append(error)
            continue
        if limited:
            terminal.warn(f"{path}: of {terminal.duration(found.seconds)}, the first {limit_seconds:g} s are drawn")
        # The folder sets noisy/1.wav apart from enhanced/1.wav.
        signals.append(("/".join(path.parts[-2:]), waveform[0], rate))
    _leave_out(problems, signals)
    return signals, problems


def _leave_out(problems: list[AudioError], rest: "list[_Signal] | list[LatentTrack]") -> None:
    """Name recordings that are not drawn; where there are no others, nothing is."""
    if not rest:
        raise problems[0]
    for problem in problems:
        terminal.warn(f"left out: {problem}")


def _masks(signals: list[_Signal], model: str) -> "Figure":
    import sottovoce
    from sottovoce.metrics import latent_plots

    enhancer = sottovoce.load(model)
    return latent_plots.masks(
        [(name, samples, enhancer.enhance(samples, rate), rate) for name, samples, rate in signals]
    )


def _tracks(signals: list[_Signal], model: str) -> "tuple[list[LatentTrack], list[AudioError]]":
    """Ways of recordings through the latent space of a checkpoint, and what is too short, which is named."""
    with interruption.ending_at_once():
        from sottovoce.models.checkpoint import load_checkpoint
    from sottovoce.signal.resampling import resample
    from sottovoce.weights import find_checkpoint

    network, settings = load_checkpoint(find_checkpoint(model))
    rate = settings.frontend.sample_rate
    tracks, problems = [], []
    for name, samples, own_rate in signals:
        try:
            tracks.append(_track(name, resample(samples, own_rate, rate), rate, network))
        except AudioError as error:
            problems.append(error)
    _leave_out(problems, tracks)
    return tracks, problems


def _track(name: str, samples: "NDArray[np.float32]", rate: int, network: "JointAutoencoder") -> "LatentTrack":
    import torch

    from sottovoce.metrics.latent_plots import LatentTrack
    from sottovoce.signal.levels import to_db
    from sottovoce.signal.segments import voice_activity

    activity = voice_activity(samples, rate)
    if not activity.voicing.size:
        raise AudioError(f"{name} has {len(samples) / rate:.3f} s, expected 0.04 s or more: there is no latent to draw")
    stft = network.stft.reference
    waveform = torch.from_numpy(samples[np.newaxis])
    latent, kept = network.follow(waveform)
    removed = network.stft.analyse(waveform)[:, :, : network.bins] - kept
    # The window has unit energy: a frame's power per sample is that of its bins, both sides, over their number.
    levels_db = [
        to_db(torch.sqrt(2 * part.square().sum(dim=(1, 2)) / stft.window)[0].numpy()) for part in (kept, removed)
    ]
    # A frame stands for the middle of what it gives back.
    seconds = (np.arange(latent.shape[-1]) * stft.hop + stft.hop - stft.synthesis_window / 2) / rate
    inside = (seconds >= 0) & (seconds <= len(samples) / rate)
    centres = (np.arange(activity.voicing.size) * activity.hop + activity.window / 2) / rate
    return LatentTrack(
        name=name,
        latent=latent[0].T.double().numpy()[inside],
        seconds=seconds[inside],
        voicing=np.interp(seconds[inside], centres, activity.voicing),
        noise_db=levels_db[1][inside],
        snr_db=(levels_db[0] - levels_db[1])[inside],
    )
