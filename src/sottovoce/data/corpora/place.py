"""What a place sounds like, from its noisy recordings alone, and excerpts of them that are enough to learn from."""

import contextlib
import itertools
import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sottovoce.atomic import replacing
from sottovoce.data.corpora.harvest import NoiseStretch
from sottovoce.data.corpora.manifest import Manifest, Recording
from sottovoce.errors import AudioError, DataError
from sottovoce.paths import is_file, resolved
from sottovoce.progress import TaskProgress
from sottovoce.signal import audio, levels, segments
from sottovoce.signal.resampling import resample

_log = logging.getLogger(__name__)

MAX_SECONDS = 1800.0
"""Of longer recordings, excerpts of this length together are taken: more teaches little and costs time and disk."""

MIN_SECONDS = 30.0
"""Less than this shows neither the noise of a place nor whether a model has become better there."""

_EXCERPT_SECONDS = 20.0
_PLAN = "excerpts.json"
_MIN_EXCERPTS = 6
_CLIPPED = 0.999
_CLIPPED_SHARE = 1e-4
_VOICED = 0.8
_SPEECH_SHARE = 0.02  # Of the frames; where fewer are voiced, nobody speaks.
_SMOOTHING_FRAMES = 5
_DECAY_SECONDS = (0.08, 0.6)
_DECAY_DB = 12.0
_ABOVE_NOISE_DB = 6.0
_MIN_DECAYS = 8
_FASTEST_PERCENTILE = 25.0
# Tuned on the three places of benchmarks/adaptation.py: each has two noises, and recordings of all three have five.
_SAME_NOISE_DB = 8.0
_FAINT_BAND_DB = -30.0  # Re the mean of the bands: what is below comes from the recorder, and changes with the level.
_NOISE_SHARE, _MIN_RECORDINGS = 0.05, 2  # What fewer recordings have is an event.
_MAX_NOISES = 3
_BAND_EDGES_HZ = 62.5 * 2.0 ** (np.arange(22) / 3.0)
"""Edges of 21 bands of a third of an octave, from 62.5 Hz to 8 kHz."""


@dataclass(frozen=True)
class Place:
    """What is measured in the recordings of a place; levels re full scale.

    Attributes:
        seconds: Length of what was listened to.
        speech_share: Share of the time with a clear voice.
        speech_db: Level of clear voices without the noise below them; NaN without voices.
        noise_db: Level of the noise; NaN where none could be separated from speech.
        snr_db: Difference of the two.
        t60_seconds: Reverberation time estimated from the decay of the voices, good to a factor of two; NaN if unknown.
        clipped_share: Share of samples at full scale.
        noise_bands_db: Noise level in each of the bands of `BAND_CENTRES_HZ`, one row per recording with noise.
        noisy: The recordings of these rows.
    """

    seconds: float
    speech_share: float
    speech_db: float
    noise_db: float
    snr_db: float
    t60_seconds: float
    clipped_share: float
    noise_bands_db: NDArray[np.float64]
    noisy: tuple[Recording, ...]

    @property
    def noises(self) -> list[list[Recording]]:
        """Recordings whose noise has about the same spectrum, the largest group first; without rare noises."""
        powers = 10.0 ** (self.noise_bands_db / 10.0)
        levels_db = self.noise_bands_db - 10.0 * np.log10(powers.mean(axis=1, keepdims=True))
        shapes_db = np.maximum(levels_db, _FAINT_BAND_DB)
        groups: list[tuple[NDArray[np.float64], list[Recording]]] = []
        for shape_db, recording in zip(shapes_db, self.noisy, strict=True):
            distances_db = [float(np.sqrt(np.mean((shape_db - first_db) ** 2))) for first_db, _ in groups]
            if distances_db and min(distances_db) < _SAME_NOISE_DB:
                groups[int(np.argmin(distances_db))][1].append(recording)
            else:
                groups.append((shape_db, [recording]))
        least = max(_MIN_RECORDINGS, _NOISE_SHARE * len(self.noisy))
        common = [members for _, members in groups if len(members) >= least]
        return sorted(common, key=len, reverse=True)

    @property
    def is_several(self) -> bool:
        """Whether there are more kinds of noise than one place has."""
        return len(self.noises) > _MAX_NOISES

    @property
    def has_speech(self) -> bool:
        """Whether somebody speaks clearly enough to be noticed."""
        return self.speech_share >= _SPEECH_SHARE

    def sentences(self) -> list[str]:
        """What was measured, in sentences."""
        found = [f"Listened to {self.seconds / 60:.1f} minutes; a clear voice in {self.speech_share:.0%} of the time."]
        if not math.isnan(self.noise_db):
            found.append(f"Noise: {self.noise_db:.0f} dB re full scale, {self._colour()}.")
        else:
            found.append("Noise: no pause shows it alone; what the old model takes away stands for it.")
        if not math.isnan(self.snr_db):
            found.append(f"Voices are {self.snr_db:.0f} dB above the noise.")
        if not math.isnan(self.t60_seconds):
            found.append(f"Reverberation: about {self.t60_seconds:.1f} s.")
        if self.clipped_share > _CLIPPED_SHARE:
            found.append(
                f"{self.clipped_share:.1%} of the samples are at full scale: turn the recorder's level down next time."
            )
        return found

    def _colour(self) -> str:
        """Where most of the noise is."""
        bands = 10.0 ** (self.noise_bands_db / 10.0)
        powers = bands.mean(axis=0)
        low, high = powers[BAND_CENTRES_HZ < 500.0].sum(), powers[BAND_CENTRES_HZ >= 2000.0].sum()
        middle = powers.sum() - low - high
        strongest = max((low, "mostly below 500 Hz"), (middle, "mostly around 1 kHz"), (high, "mostly above 2 kHz"))
        return strongest[1]


BAND_CENTRES_HZ = np.sqrt(_BAND_EDGES_HZ[1:] * _BAND_EDGES_HZ[:-1])
"""Centres of the bands of `Place.noise_bands_db` in Hz."""


def take_excerpts(source: Path, folder: Path, sample_rate: int, *, progress: TaskProgress | None = None) -> None:
    """Cut recordings into mono excerpts that are spread evenly over them; none overlaps another.

    Args:
        source: A recording, or a folder of recordings; no more than the excerpts is read, however long they are.
        folder: Folder to write to: a sub-folder per recording, or per quarter of a single one, so that held-out
            excerpts are from another recording or another time; and `excerpts.json`, which lists what was cut. Cutting
            goes on after an interruption.
        sample_rate: Rate of the excerpts in Hz.
        progress: Called with (excerpts done, excerpts in all).

    Raises:
        AudioError: There is no recording at `source`, or the disk takes no more.
        DataError: None can be read, less than `MIN_SECONDS` can be used, all is silent, or `folder` holds excerpts of
            other recordings.
    """
    infos = []
    problems: list[str] = []
    inside = resolved(folder)
    for path in [source] if is_file(source) else audio.find_audio(source):
        if resolved(path).is_relative_to(inside):
            continue
        try:
            infos.append(audio.probe(path))
        except AudioError as error:
            problems.append(str(error))
    if problems and not infos:
        raise DataError(problems[0])
    total = sum(info.seconds for info in infos)
    if total < MIN_SECONDS:
        also = f"; left out: {problems[0]}" if problems else ""
        raise DataError(
            f"found {total:.1f} s of recordings at {source}, expected at least {MIN_SECONDS:g} s, better some "
            f"minutes: record more of the place{also}"
        )
    for problem in problems:
        _log.warning("left out: %s", problem)
    plan = _plan(infos, total)
    _keep_plan(folder / _PLAN, plan)
    silent = True
    for index, piece in enumerate(plan):
        target = folder / piece.target
        if target.exists():
            silent = False
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            waveform, rate = audio.read(piece.path, start=piece.start, frames=piece.frames)
            mono = resample(waveform.mean(axis=0), rate, sample_rate)
            silent &= levels.rms_db(mono) <= levels.SILENCE_DB
            with audio.Writer(target, sample_rate, 1) as writer:
                writer.write(np.clip(mono, -1.0, 1.0)[np.newaxis])
        if progress is not None:
            progress(index + 1, len(plan))
    if silent:
        _forget(folder, plan)
        raise DataError(f"found nothing but silence at {source}, expected recordings of a place: choose others")


class _Piece(NamedTuple):
    """A part of a recording, and where it is to be written."""

    path: Path
    start: int
    frames: int
    target: str


def _plan(infos: Sequence[audio.AudioInfo], total_seconds: float) -> list[_Piece]:
    length = min(_EXCERPT_SECONDS, total_seconds / _MIN_EXCERPTS)
    pieces = []
    for number, info in enumerate(infos):
        edges = np.linspace(0, info.frames, max(1, round(info.seconds / length)) + 1).astype(int)
        for index, (start, end) in enumerate(itertools.pairwise(edges)):
            group = f"{number:04d}" if len(infos) > 1 else f"quarter_{4 * index // (len(edges) - 1)}"
            pieces.append(_Piece(info.path, int(start), int(end - start), f"{group}/{index:04d}.flac"))
    wanted = max(1, round(len(pieces) * min(1.0, MAX_SECONDS / total_seconds)))
    return [pieces[index] for index in np.linspace(0, len(pieces) - 1, wanted).round().astype(int)]


def _keep_plan(path: Path, plan: Sequence[_Piece]) -> None:
    """Write what is to be cut, or see that it is what was cut before."""
    sizes = {piece.path: piece.path.stat().st_size for piece in plan}
    content = json.dumps([[str(p.path.resolve()), sizes[p.path], p.start, p.frames, p.target] for p in plan])
    if path.exists():
        if path.read_text(encoding="utf-8") != content:
            raise DataError(f"found excerpts of other recordings in {path.parent}: give another folder")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(content, encoding="utf-8")


def source_names(folder: Path) -> dict[Path, str]:
    """Say from what the excerpts in a folder were cut.

    Args:
        folder: What `take_excerpts` wrote.

    Returns:
        For every excerpt, the name of its recording; where all are from one, the minute in it.
    """
    pieces = json.loads((folder / _PLAN).read_text(encoding="utf-8"))
    if len({path for path, *_ in pieces}) > 1:
        return {folder / target: Path(path).name for path, _, _, _, target in pieces}
    rate = audio.probe(Path(pieces[0][0])).sample_rate
    return {folder / target: f"minute {start / rate / 60.0:.1f}" for _, _, start, _, target in pieces}


def _forget(folder: Path, plan: Sequence[_Piece]) -> None:
    """Delete the excerpts of a plan, and nothing else that may be in their folder."""
    targets = [folder / piece.target for piece in plan]
    for path in (*targets, folder / _PLAN):
        path.unlink()
    for directory in (*sorted({target.parent for target in targets}), folder):
        with contextlib.suppress(OSError):  # something else is in it
            directory.rmdir()


def listen(recordings: Manifest, stretches: Sequence[NoiseStretch]) -> Place:
    """Estimate levels, signal-to-noise ratio, reverberation and noise spectra.

    Args:
        recordings: Short recordings, such as excerpts.
        stretches: Their noise-only stretches.

    Returns:
        What was measured.
    """
    noise_of = {
        recording.path: [s for s in stretches if s.recording == recording] for recording in recordings.recordings
    }
    speech_power: list[float] = []
    noise_power: list[float] = []
    voiced, frames, clipped, samples = 0, 0, 0, 0
    decays: list[float] = []
    bands, noisy = [], []
    for recording in recordings.recordings:
        waveform, rate = audio.read(recording.path)
        mono = waveform.mean(axis=0)
        clipped += int(np.count_nonzero(np.abs(waveform) >= _CLIPPED))
        samples += waveform.size
        noise = [mono[stretch.start : stretch.start + stretch.frames] for stretch in noise_of[recording.path]]
        power = float(np.mean(np.square(np.concatenate(noise), dtype=np.float64))) if noise else math.nan
        if noise:
            noise_power.append(power)
            bands.append(_bands_db(np.concatenate(noise), rate))
            noisy.append(recording)
        activity = segments.voice_activity(mono, rate)
        clear = activity.voicing > _VOICED
        voiced, frames = voiced + int(clear.sum()), frames + clear.size
        if clear.any():
            windows = np.lib.stride_tricks.sliding_window_view(mono, activity.window)[:: activity.hop]
            loud = np.square(windows[clear], dtype=np.float64).mean(axis=1)
            below = power if noise else float(np.percentile(np.square(windows).mean(axis=1), 10))
            speech_power.append(float(np.maximum(loud - below, 1e-12).mean()))
        decays += _decay_times(mono, rate)
    speech_db, noise_db = (_mean_db(powers) for powers in (speech_power, noise_power))
    known = len(decays) >= _MIN_DECAYS
    return Place(
        seconds=recordings.seconds,
        speech_share=voiced / frames if frames else 0.0,
        speech_db=speech_db,
        noise_db=noise_db,
        snr_db=speech_db - noise_db,
        t60_seconds=float(np.percentile(decays, _FASTEST_PERCENTILE)) if known else math.nan,
        clipped_share=clipped / max(1, samples),
        noise_bands_db=np.array(bands).reshape(len(bands), BAND_CENTRES_HZ.size),
        noisy=tuple(noisy),
    )


def _mean_db(powers: Sequence[float]) -> float:
    return float(levels.to_db(math.sqrt(np.mean(powers)))) if powers else math.nan


def _bands_db(noise: NDArray[np.floating], sample_rate: int) -> NDArray[np.float64]:
    """Level in each band, from the mean power spectrum of windows of 64 ms."""
    window = round(0.064 * sample_rate)
    padded = np.pad(noise, (0, max(0, window - noise.size)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[:: window // 2]
    taper = np.hanning(window)
    # One-sided, so that the bands' powers add up to the mean square.
    power = 2.0 * (np.abs(np.fft.rfft(frames * taper)) ** 2).mean(axis=0) / (window * np.square(taper).sum())
    frequency_hz = np.fft.rfftfreq(window, 1.0 / sample_rate)
    edges = np.searchsorted(frequency_hz, _BAND_EDGES_HZ)
    sums = np.array([power[a:b].sum() for a, b in zip(edges[:-1], np.maximum(edges[1:], edges[:-1] + 1), strict=True)])
    return levels.to_db(np.sqrt(sums))


def _decay_times(waveform: NDArray[np.floating], sample_rate: int) -> list[float]:
    """Times in which the level would fall by 60 dB, from every stretch in which it falls steadily.

    A voice that stops leaves the room's decay. Other falls of its level are slower, so the fastest of many are the
    room's.
    """
    hop = round(segments.FRAME_SECONDS * sample_rate)
    power = levels.frame_power(waveform, hop)
    if power.size < 2 * _SMOOTHING_FRAMES:
        return []
    smooth = np.convolve(power, np.full(_SMOOTHING_FRAMES, 1.0 / _SMOOTHING_FRAMES), mode="same")
    level_db = 10.0 * np.log10(smooth + 1e-12)
    above_noise = level_db > np.percentile(level_db, 10) + _ABOVE_NOISE_DB
    falling = np.concatenate([np.diff(level_db) < 0, [False]]) & above_noise
    shortest, longest = (round(seconds / segments.FRAME_SECONDS) for seconds in _DECAY_SECONDS)
    times = []
    for start, end in segments.runs(falling):
        # The level leaves its peak slowly.
        first, last = start + _SMOOTHING_FRAMES // 2, min(end, start + longest)
        if last - first >= shortest and level_db[first] - level_db[last - 1] >= _DECAY_DB:
            slope = np.polyfit(np.arange(last - first) * segments.FRAME_SECONDS, level_db[first:last], 1)[0]
            times.append(-60.0 / slope)
    return times
