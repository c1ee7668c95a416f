"""Noisy mixtures with known clean speech: for tests, and as a stand-in for recordings from the field."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from sottovoce.data.corpora.folders import new_folder, read_table, write_hashed, write_table
from sottovoce.data.corpora.manifest import Manifest, Recording
from sottovoce.data.simulation import rooms
from sottovoce.errors import AudioError, DataError
from sottovoce.progress import TaskProgress
from sottovoce.signal import audio, levels
from sottovoce.signal.limits import implausible
from sottovoce.signal.resampling import resample

_Card = TypeVar("_Card")

Target = Literal["dry", "early"]
"""What counts as clean: the dry speech, or direct sound and early reflections."""

TABLE = "mixtures.csv"
"""Name of the table beside the folders `noisy` and `clean`."""

_MAX_COUNT = 1_000_000
_MAX_SECONDS = 36_000.0
_MAX_RATIO_DB = 200.0
_PAUSE_MEDIAN_SECONDS = 0.8
_PAUSE_SPREAD = 0.7
_PAUSE_RANGE_SECONDS = (0.2, 5.0)
_TURN_SHARE = 0.1  # Pauses in which the other one speaks, unheard: as long as a turn in a conversation.
_TURN_RANGE_SECONDS = (2.0, 5.0)
_CROSSFADE_SECONDS = 0.1
_SPEECH_RANGE_DB = (-32.0, -20.0)
_QUIET_EXCERPT_DB = -15.0
_SPEECH_SHARE = 0.1  # A short recording may not fall into a pause altogether.
_DRAWS = 20


@dataclass(frozen=True)
class Mixture:
    """How one mixture was made: a row of the table.

    Attributes:
        file: Name of the mixture below `noisy`, and of its clean version below `clean`.
        seconds: Length.
        sample_rate: Rate in Hz.
        snr_db: Active level of the speech at the microphone minus RMS level of the noise.
        target: What the clean version is.
        speaker: Who speaks.
        speech: Speech files in order, joined by `|`.
        speech_gain_db: Gain of the speech, the same for dry and reverberant; the utterances are levelled before.
        noise: Noise file.
        noise_offset_seconds: Where in the noise file the excerpt begins.
        noise_gain_db: Gain of the noise.
        room: Response file, `simulated`, or nothing.
        seed: Seed of the set; with `index` it gives every draw for this mixture.
        index: Number of the mixture in the set, from 0.
        noisy_sha256: Hash of the mixture's file.
        clean_sha256: Hash of the clean file.
    """

    file: str
    seconds: float
    sample_rate: int
    snr_db: float
    target: Target
    speaker: str
    speech: str
    speech_gain_db: float
    noise: str
    noise_offset_seconds: float
    noise_gain_db: float
    room: str
    seed: int
    index: int
    noisy_sha256: str
    clean_sha256: str


class Mixed(NamedTuple):
    """A mixture and what it is made of.

    Attributes:
        noisy: Mixture `(samples,)`.
        clean: Clean speech `(samples,)`, aligned with the mixture and at the level it has there.
        speech_gain: Factor of the speech in both.
        noise_gain: Factor of the noise.
    """

    noisy: NDArray[np.float32]
    clean: NDArray[np.float32]
    speech_gain: float
    noise_gain: float


def mix(
    speech: NDArray[np.floating],
    noise: NDArray[np.floating],
    snr_db: float,
    sample_rate: int,
    *,
    room: rooms.Room | None = None,
    target: Target = "dry",
    level_db: float = -26.0,
) -> Mixed:
    """Mix speech and noise at a signal-to-noise ratio over active speech.

    Args:
        speech: Dry speech `(samples,)`, full scale ±1.
        noise: Noise `(samples,)`, as long as the speech.
        snr_db: Active level of the speech at the microphone, reverberation included, minus RMS level of the noise.
        sample_rate: Rate of both in Hz.
        room: Where the speech is recorded; None for no room.
        target: What the clean version is.
        level_db: Active level of the speech at the microphone in dB re full scale; less if the peaks would be limited.

    Returns:
        Mixture and clean version under one gain, peaks below full scale.

    Raises:
        AudioError: Speech or noise is silent.
    """
    clean = at_microphone = speech
    if room is not None:
        at_microphone = room.apply(speech)
        if target == "early":
            clean = room.apply_early(speech)
    noise_gain = levels.noise_gain_for_snr(at_microphone, noise, snr_db, sample_rate)
    noisy = at_microphone + noise_gain * noise
    gain = float(levels.from_db(level_db - levels.active_speech_db(at_microphone, sample_rate)))
    gain *= levels.peak_gain((gain * noisy, gain * clean))
    return Mixed((gain * noisy).astype(np.float32), (gain * clean).astype(np.float32), gain, gain * noise_gain)


def join_utterances(
    utterances: Sequence[NDArray[np.floating]], length: int, sample_rate: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Join utterances of one speaker with the pauses of a conversation.

    Pauses are lognormal with a median of 0.8 s; one in ten is longer, as when somebody else speaks. The recording
    begins anywhere: in a pause or in an utterance. When the utterances are used up they come again.

    Args:
        utterances: Speech, each `(samples,)`.
        length: Wanted samples.
        sample_rate: Rate in Hz.
        rng: Where pauses and the beginning come from.

    Returns:
        Speech of the wanted length `(samples,)`, utterances at equal active levels.
    """
    parts: list[NDArray[np.float32]] = []
    total = 0
    while total < 2 * length:
        for utterance in utterances:
            gain = levels.from_db(-26.0 - levels.active_speech_db(utterance, sample_rate))
            if rng.random() < _TURN_SHARE:
                pause_seconds = rng.uniform(*_TURN_RANGE_SECONDS)
            else:
                pause_seconds = np.clip(
                    rng.lognormal(np.log(_PAUSE_MEDIAN_SECONDS), _PAUSE_SPREAD), *_PAUSE_RANGE_SECONDS
                )
            pause = np.zeros(round(float(pause_seconds) * sample_rate), np.float32)
            parts += [pause, (gain * utterance).astype(np.float32)]
            total += pause.size + utterance.size
    conversation = np.concatenate(parts)
    for _ in range(_DRAWS):
        # A beginning within the first utterance or the pause before it.
        start = int(rng.integers(min(parts[0].size + parts[1].size, total - length)))
        part = conversation[start : start + length]
        if np.count_nonzero(part) >= _SPEECH_SHARE * length:
            break
    return part


def excerpt(
    noise: NDArray[np.floating], length: int, sample_rate: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], int]:
    """Take a part of a noise recording that is not unusually quiet; a short recording is looped with a crossfade.

    Args:
        noise: Noise `(samples,)`, not silent.
        length: Wanted samples.
        sample_rate: Rate in Hz.
        rng: Where the beginning comes from.

    Returns:
        Excerpt `(samples,)`, and the sample of `noise` at which it begins.
    """
    fade = min(round(_CROSSFADE_SECONDS * sample_rate), noise.size // 4)
    period = noise.size - fade
    # Noises are uncorrelated with themselves elsewhere: fades of constant power keep the level.
    angle = np.linspace(0.0, np.pi / 2, fade, endpoint=False)
    loop = noise[:period].copy()
    loop[:fade] = np.sin(angle) * loop[:fade] + np.cos(angle) * noise[period:]
    usual_db = levels.rms_db(noise)
    for _ in range(_DRAWS):
        if noise.size >= length:
            start = int(rng.integers(noise.size - length + 1))
            part = noise[start : start + length]
        else:
            start = int(rng.integers(period))
            part = np.tile(np.roll(loop, -start), -(-length // period))[:length]
        if levels.rms_db(part) > usual_db + _QUIET_EXCERPT_DB:
            break
    return part.astype(np.float32), start


def make_mixtures(
    speech: Manifest,
    noise: Manifest,
    output: Path,
    *,
    count: int,
    snr_db: Sequence[float],
    seed: int,
    responses: Sequence[Path] = (),
    room_share: float = 0.0,
    t60_range_seconds: tuple[float, float] = (0.2, 0.8),
    seconds: float | None = None,
    lead_in_seconds: tuple[float, float] = (0.0, 0.0),
    noise_part: tuple[float, float] = (0.0, 1.0),
    target: Target = "dry",
    sample_rate: int = 16000,
    overwrite: bool = False,
    progress: TaskProgress | None = None,
) -> list[Mixture]:
    """Make a folder of mixtures: `noisy/*.flac`, `clean/*.flac` and a table of how each was made.

    Speakers, kinds of noise, responses and ratios are dealt out evenly. The folder appears as a whole or not at all.
    Equal arguments give equal bytes.

    Args:
        speech: Dry speech; its groups are the speakers.
        noise: Noise; its groups are the kinds of noise.
        output: Folder to make.
        count: Number of mixtures.
        snr_db: Signal-to-noise ratios in dB, taken in turn.
        seed: Seed of all draws.
        responses: Files of measured rooms; none for simulated rooms.
        room_share: Share of the mixtures that are in a room, 0 to 1.
        t60_range_seconds: Reverberation times of simulated rooms.
        seconds: Length of each mixture, from utterances of one speaker with pauses; None for one utterance each.
        lead_in_seconds: Range of the time before the speaker begins, in which the noise is alone: recorders are started
            before people speak. Within `seconds`; without these it makes a mixture longer.
        noise_part: Where in each noise recording excerpts are taken, as shares of its length, 0 to 1: disjoint parts
            give training and test other excerpts of the same recordings.
        target: What the clean versions are.
        sample_rate: Rate of the mixtures in Hz; inputs of other rates are resampled.
        overwrite: Replace the mixtures of an earlier run; what else is in the folder stays.
        progress: Called with (mixtures made, mixtures in all) after every mixture.

    Returns:
        One row per mixture, in order.

    Raises:
        DataError: The folder exists, or a number is out of its range.
        AudioError: A file cannot be read, or the recordings of a noise are silent.
    """
    if not 1 <= count <= _MAX_COUNT or not snr_db or not 0.0 <= room_share <= 1.0 or seed < 0:
        raise DataError(
            f"found {count} mixtures, {len(snr_db)} ratios, {room_share:g} of them in rooms, and the seed {seed}: "
            f"expected 1 to {_MAX_COUNT:,} mixtures, at least one ratio, a share from 0 to 1, and a seed of 0 or more"
        )
    if not (seconds is None or 0.0 < seconds <= _MAX_SECONDS):
        raise DataError(f"found mixtures of {seconds} seconds, expected more than 0 and at most {_MAX_SECONDS:g}")
    wrong = implausible(sample_rate, 1)
    if wrong is not None:
        raise DataError(f"found the {wrong}")
    if not all(-_MAX_RATIO_DB <= ratio_db <= _MAX_RATIO_DB for ratio_db in snr_db):
        raise DataError(f"found the ratios {tuple(snr_db)}, expected -{_MAX_RATIO_DB:g} to {_MAX_RATIO_DB:g} dB")
    if not 0.0 <= noise_part[0] < noise_part[1] <= 1.0:
        raise DataError(
            f"found the part from {noise_part[0]:g} to {noise_part[1]:g} of each noise recording, expected two shares "
            "from 0 to 1, the smaller one first: change them"
        )
    if not 0.0 <= lead_in_seconds[0] <= lead_in_seconds[1] <= 0.9 * (seconds or math.inf):
        raise DataError(
            f"found a lead-in of {lead_in_seconds[0]:g} to {lead_in_seconds[1]:g} seconds, expected a range from 0 to "
            "nine tenths of the mixture's length: change it"
        )
    earlier = _require_free(output, overwrite)
    deal = np.random.default_rng(seed)
    speakers = deal_out(speech.groups, count, deal)
    kinds = deal_out(noise.groups, count, deal)
    in_room = deal_out([index < round(room_share * count) for index in range(count)], count, deal)
    measured = deal_out(responses, count, deal) if responses else []
    digits = len(str(count - 1))
    rows = []
    with new_folder(output, earlier) as work:
        for index in range(count):
            # A generator per mixture: a mixture does not depend on how many numbers those before it drew.
            rng = np.random.default_rng([seed, index])
            lead_in = round(float(rng.uniform(*lead_in_seconds)) * sample_rate) if lead_in_seconds[1] else 0
            spoken = None if seconds is None else round(seconds * sample_rate) - lead_in
            dry, utterances = _draw_speech(members(speech, speakers[index]), spoken, sample_rate, rng)
            dry = np.pad(dry, (lead_in, 0))
            noises = members(noise, kinds[index])
            part, noise_file, offset = _draw_noise(noises, dry.size, noise_part, sample_rate, rng)
            room, room_name = None, ""
            if in_room[index] and measured:
                room, room_name = rooms.read_room(measured[index], sample_rate), str(measured[index])
            elif in_room[index]:
                room, room_name = rooms.simulate_room(rng, sample_rate, t60_range_seconds), "simulated"
            ratio_db = float(snr_db[index % len(snr_db)])
            level_db = float(rng.uniform(*_SPEECH_RANGE_DB))
            mixed = mix(dry, part, ratio_db, sample_rate, room=room, target=target, level_db=level_db)
            name = f"{index:0{digits}d}.flac"
            rows.append(
                Mixture(
                    file=name,
                    seconds=dry.size / sample_rate,
                    sample_rate=sample_rate,
                    snr_db=ratio_db,
                    target=target,
                    speaker=speakers[index],
                    speech="|".join(str(utterance.path) for utterance in utterances),
                    speech_gain_db=round(float(levels.to_db(mixed.speech_gain)), 3),
                    noise=str(noise_file.path),
                    noise_offset_seconds=offset / sample_rate,
                    noise_gain_db=round(float(levels.to_db(mixed.noise_gain)), 3),
                    room=room_name,
                    seed=seed,
                    index=index,
                    noisy_sha256=write_hashed(work / "noisy" / name, mixed.noisy, sample_rate),
                    clean_sha256=write_hashed(work / "clean" / name, mixed.clean, sample_rate),
                )
            )
            if progress is not None:
                progress(index + 1, count)
        write_table(work / TABLE, rows)
    return rows


def _require_free(output: Path, overwrite: bool) -> set[str]:
    """Files of an earlier run, by their paths in the folder, that may be replaced."""
    if output.exists() and not output.is_dir():
        raise DataError(f"found a file at {output}, expected a new folder: choose another name")
    if output.exists() and any(output.iterdir()):
        if not overwrite:
            raise DataError(f"found files in {output}, expected a new folder: choose another, or allow overwriting")
        if not (output / TABLE).exists():
            raise DataError(f"found files in {output} that are no mixtures, so it is not replaced: choose another")
        # Whoever wrote the table may have written any path in it.
        names = [Path(row.file).name for row in read_table(output / TABLE, Mixture)]
        return {TABLE, *(f"{part}/{name}" for part in ("noisy", "clean") for name in names)}
    return set()


def _draw_speech(
    utterances: list[Recording], samples: int | None, sample_rate: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], list[Recording]]:
    """Dry speech of one speaker, and the files that it is from."""
    if samples is None:
        utterance = utterances[int(rng.integers(len(utterances)))]
        return read_mono(utterance, sample_rate), [utterance]
    drawn: list[Recording] = []
    for index in rng.permutation(len(utterances)):
        drawn.append(utterances[index])
        if sum(utterance.seconds for utterance in drawn) * sample_rate >= samples:
            break
    waveforms = [read_mono(utterance, sample_rate) for utterance in drawn]
    return join_utterances(waveforms, samples, sample_rate, rng), drawn


def _draw_noise(
    recordings: Sequence[Recording],
    length: int,
    noise_part: tuple[float, float],
    sample_rate: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], Recording, int]:
    """An excerpt of one of the recordings, and the sample of the recording at which it begins."""
    for _ in range(_DRAWS):
        recording = recordings[int(rng.integers(len(recordings)))]
        waveform = read_mono(recording, sample_rate)
        first, last = (round(share * waveform.size) for share in noise_part)
        taken, start = excerpt(waveform[first:last], length, sample_rate, rng)
        # Corpora of short sounds are filled up with digital silence.
        if levels.rms_db(taken) > levels.SILENCE_DB:
            return taken, recording, first + start
    raise AudioError(
        f"found silence in {recording.path} and whatever else was drawn of the noise {recording.group!r}, expected a "
        "sound to mix: leave it out"
    )


def deal_out(cards: Sequence[_Card], count: int, rng: np.random.Generator) -> list[_Card]:
    """Deal from shuffled packs, so that each card comes as often as any other, give or take one.

    Args:
        cards: One pack, not empty.
        count: How many to deal.
        rng: Where the order of each pack comes from.

    Returns:
        The cards in the order of dealing `(count,)`.
    """
    packs = -(-count // len(cards))
    return [cards[index] for _ in range(packs) for index in rng.permutation(len(cards))][:count]


def members(manifest: Manifest, group: str) -> list[Recording]:
    """List the recordings of one group.

    Args:
        manifest: Where to look.
        group: Speaker, session, kind of noise or room.

    Returns:
        Its recordings in the order of the manifest.
    """
    return [recording for recording in manifest.recordings if recording.group == group]


def read_mono(
    recording: Recording, sample_rate: int, *, start: int = 0, frames: int | None = None
) -> NDArray[np.float32]:
    """Read the first channel of a recording: a mean of two could cancel.

    Args:
        recording: What to read.
        sample_rate: Wanted rate in Hz.
        start: First sample to read, at the recording's own rate.
        frames: Samples to read, at the recording's own rate; None for all.

    Returns:
        Samples `(samples,)`, full scale ±1.

    Raises:
        AudioError: The file cannot be read.
    """
    channels, rate = audio.read(recording.path, start=start, frames=frames)
    return resample(channels[0], rate, sample_rate)
