"""The data of the poster's experiment, from any corpora: a few clean signals, mixtures of other talkers, and a test.

Training is unpaired: the clean signals are of other speakers than the mixtures. The test has speakers whom no training
heard, and by its condition other noises and rooms as well.

Source:
    Y. Li, Y. Sun, W. Wang, S. M. Naqvi, SSPD 2023: 28 clean signals, 392 mixtures and 140 test mixtures.
"""

import contextlib
import hashlib
import itertools
import json
import logging
import math
import shutil
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from sottovoce.atomic import replacing
from sottovoce.baselines.system import SAMPLE_RATE
from sottovoce.data.manifest import Manifest, Recording, scan
from sottovoce.data.mixtures import (
    TABLE,
    Mixture,
    deal_out,
    make_mixtures,
    members,
    new_folder,
    read_mono,
    read_table,
    write_hashed,
    write_table,
)
from sottovoce.errors import ConfigError, DataError
from sottovoce.signal import levels

_log = logging.getLogger(__name__)
_Row = TypeVar("_Row")

Part = Literal["speech", "mixtures", "test"]
Progress = Callable[[str, int, int], None]

_SPEAKER_SHARES = np.array([0.30, 0.45, 0.25])  # of the speech autoencoder, the mixtures and the test
_KIND_SHARES = (2 / 3, 1 / 3)  # of training and test
_TRAINING_NOISE, _MATCHED_TEST_NOISE, _WHOLE_NOISE = (0.0, 0.75), (0.75, 1.0), (0.0, 1.0)
_PAUSE_RANGE_SECONDS = (0.2, 0.5)
_LEVEL_DB = -26.0
_SHORTEST_SECONDS = 0.5
_FRAME_SECONDS = 0.01
_ONSET_DB = -20.0  # below the active level; a fricative may begin softer
_ONSET_MARGIN_SECONDS = 0.05
_PAUSE_DB = -20.0  # A stretch of a long recording so far below the recording's level is a pause.
_SIGNALS = "signals.csv"
_CHOICES = "choices.json"
# Every draw has a stream of its own, so that none depends on how many numbers another took.
_SPEAKERS, _KINDS, _ROOMS, _CLEAN, _MIXTURES, _TEST_SPEECH, _TEST = range(7)


@dataclass(frozen=True)
class Counts:
    """How much a protocol holds.

    Attributes:
        clean_signals: Clean signals for the speech autoencoder; fewer are made where the speech does not suffice.
        clean_seconds: Greatest length of a clean signal.
        mixtures: Mixtures for the training.
        mixture_seconds: Their length.
        test_mixtures: Mixtures of the test.
        test_seconds: Their length.
        snr_db: Signal-to-noise ratios of all mixtures in dB, taken in turn.

    Raises:
        ConfigError: A number is not above 0, or there is no ratio.
    """

    clean_signals: int = 28
    clean_seconds: float = 30.0
    mixtures: int = 392
    mixture_seconds: float = 30.0
    test_mixtures: int = 140
    test_seconds: float = 5.0
    snr_db: tuple[float, ...] = (-5.0, 0.0, 5.0)

    def __post_init__(self) -> None:
        numbers = asdict(self)
        ratios = numbers.pop("snr_db")
        wrong = [f"{name} {value:g}" for name, value in numbers.items() if not value > 0]
        if wrong or not ratios:
            raise ConfigError(
                f"found {', '.join(wrong) or 'no signal-to-noise ratio'}, expected counts and lengths above 0 and at "
                "least one ratio: change them."
            )


@dataclass(frozen=True)
class Condition:
    """What is known and what is new in a test.

    Attributes:
        name: Short name, also of its folder.
        description: One sentence.
        in_rooms: Speech of training mixtures and test is heard in measured rooms.
        matched: Noises and rooms of the test are those of the training.
    """

    name: str
    description: str
    in_rooms: bool
    matched: bool


CONDITIONS = {
    condition.name: condition
    for condition in (
        Condition("poster", "Reverberant; speakers, noises and rooms that training never heard.", True, False),
        Condition("matched", "Reverberant; other speakers, and other excerpts of the training's noises.", True, True),
        Condition("dry", "No rooms; speakers and noises that training never heard.", False, False),
    )
}
"""All conditions by name."""


class Sources(NamedTuple):
    """What a protocol is made from.

    Attributes:
        speech: Clean dry speech; its groups are the speakers.
        noise: Noise; its groups are the kinds.
        rooms: Measured impulse responses, their direct sound included; its groups are the rooms. A condition without
            rooms does without. Responses are short: scan them with `min_seconds` below theirs.
        test_speech: Speech of the test alone; None to divide the speakers of `speech`. Otherwise training uses the
            speakers of `speech` whose name is not among these.
        test_noise: Noise of tests with new noises; None to split the kinds of `noise`. Otherwise training uses the
            kinds of `noise` whose name is not among these.
        test_rooms: Responses of tests with new rooms; None to split `rooms`. Otherwise as for noise.
    """

    speech: Manifest
    noise: Manifest
    rooms: Manifest | None = None
    test_speech: Manifest | None = None
    test_noise: Manifest | None = None
    test_rooms: Manifest | None = None


@dataclass(frozen=True)
class TestMixture:
    """One mixture of the test.

    Attributes:
        name: Name of the files without their ending.
        noisy: The mixture.
        clean: Its dry speech, aligned with the direct sound.
        snr_db: Signal-to-noise ratio in dB.
    """

    name: str
    noisy: Path
    clean: Path
    snr_db: float


@dataclass(frozen=True)
class Protocol:
    """Where the parts of a protocol are.

    Attributes:
        condition: What is new in the test.
        folder: Folder of the protocol; conditions of one seed share it and what they have in common.
        speech: Folder of the clean signals, one sub-folder per speaker.
        mixtures: Folder of the training mixtures.
        clean: Folder of their clean versions: for supervised systems, and for no others.
        test_noisy: Folder of the test mixtures.
        test_clean: Folder of their clean versions.
        tests: The test mixtures one by one.
        test_talkers: Number of talkers in the test.
        test_noise_kinds: Number of kinds of noise in the test.
        training_fingerprint: SHA-256 over all training files: equal fingerprints, equal training data.
    """

    condition: Condition
    folder: Path
    speech: Path
    mixtures: Path
    clean: Path
    test_noisy: Path
    test_clean: Path
    tests: tuple[TestMixture, ...]
    test_talkers: int
    test_noise_kinds: int
    training_fingerprint: str


@dataclass(frozen=True)
class Entry:
    """How one file of a protocol was made: a row of `protocol.csv`.

    Attributes:
        part: What the file is for.
        file: The file, from the protocol's folder.
        talker: Speaker.
        speech: Speech files in order, joined by `|`.
        noise_kind: Kind of noise, or nothing.
        noise: Noise file, or nothing.
        noise_offset_seconds: Where in the noise file the excerpt begins.
        room: Room, or nothing.
        response: Impulse response, or nothing.
        snr_db: Signal-to-noise ratio in dB.
        seed: Seed of the draws of this part.
        noisy_sha256: Hash of the mixture, or nothing.
        clean_sha256: Hash of the clean signal or version.
    """

    part: Part
    file: str
    talker: str
    speech: str
    noise_kind: str
    noise: str
    noise_offset_seconds: float | None
    room: str
    response: str
    snr_db: float | None
    seed: int
    noisy_sha256: str
    clean_sha256: str


@dataclass(frozen=True)
class _Signal:
    """How one joined signal was made: a row of `signals.csv` beside the signals."""

    file: str
    talker: str
    seconds: float
    speech: str
    seed: int
    sha256: str


@dataclass(frozen=True)
class _Assignment:
    """What a speaker, a kind of noise or a room is used for: a row of `split.csv`."""

    what: str
    name: str
    part: str


class _Split(NamedTuple):
    """Sources by the part that they are used in."""

    speech: Manifest
    mixtures: Manifest
    test: Manifest
    noise: Manifest
    test_noise: Manifest
    rooms: Manifest
    test_rooms: Manifest


class _Utterance(NamedTuple):
    """An utterance, or a stretch of a long recording, without the silence around it and at `_LEVEL_DB`."""

    path: Path
    waveform: NDArray[np.float32]


def build(
    sources: Sources, condition: str, counts: Counts, folder: Path, seed: int, *, progress: Progress | None = None
) -> Protocol:
    """Make the data of one condition, or find it made.

    Parts appear as a whole or not at all, and a part is made only where it is missing or damaged: a build that was
    stopped goes on where it was. One process at a time builds in a folder. Equal sources, counts and seeds give equal
    audio files. Beside the audio stand `protocol.csv`, which tells how every file was made, and `split.csv`, which
    tells what every speaker, kind of noise and room is used for.

    Args:
        sources: Speech, noise and rooms.
        condition: Name of one of `CONDITIONS`.
        counts: How much of everything.
        folder: Where to build; shared by the conditions of equal sources, counts and seed.
        seed: Seed of all draws, >= 0.
        progress: Called with the name of a task, files done and files in all.

    Returns:
        Where everything is.

    Raises:
        ConfigError: The condition is unknown.
        DataError: There are too few speakers, kinds of noise or rooms, the folder holds something else, or training and
            test are not disjoint because one recording stands under two names.
        AudioError: A file cannot be read.
    """
    if condition not in CONDITIONS:
        raise ConfigError(f"found the condition {condition!r}, expected one of {', '.join(CONDITIONS)}: choose one.")
    chosen = CONDITIONS[condition]
    split = _split(sources, chosen, seed)
    _claim(folder, sources, counts, seed)
    reverberation = "reverberant" if chosen.in_rooms else "dry"
    mixtures, test = folder / f"mixtures-{reverberation}", folder / chosen.name / "test"

    clean_signals = _signals(
        split.speech,
        folder / "speech",
        count=counts.clean_signals,
        seconds=counts.clean_seconds,
        seed=_seed_of(seed, _CLEAN),
        again=False,
        progress=_tell(progress, "clean signals"),
    )
    if len(clean_signals) < counts.clean_signals:
        _log.warning(
            "found speech for %d clean signals of %g s, expected %d: the others are left out",
            len(clean_signals),
            counts.clean_seconds,
            counts.clean_signals,
        )
    training_rows = _mixtures(
        split.mixtures,
        split.noise,
        split.rooms,
        mixtures,
        count=counts.mixtures,
        seconds=counts.mixture_seconds,
        snr_db=counts.snr_db,
        noise_part=_TRAINING_NOISE,
        seed=_seed_of(seed, _MIXTURES),
        progress=_tell(progress, f"{reverberation} training mixtures"),
    )
    test_signals = _signals(
        split.test,
        folder / "test-speech",
        count=counts.test_mixtures,
        seconds=counts.test_seconds,
        seed=_seed_of(seed, _TEST_SPEECH),
        again=True,
        progress=_tell(progress, "test signals"),
    )
    test_rows = _mixtures(
        _one_by_one(folder / "test-speech"),
        split.test_noise,
        split.test_rooms,
        test,
        count=counts.test_mixtures,
        seconds=None,
        snr_db=counts.snr_db,
        noise_part=_MATCHED_TEST_NOISE if chosen.matched else _WHOLE_NOISE,
        seed=_seed_of(seed, _TEST),
        progress=_tell(progress, f"test mixtures of {chosen.name!r}"),
    )

    signals = {signal.file: signal for signal in test_signals}
    # For the mixing every signal was a talker of its own; here it is whom and what it consists of.
    told = [replace(row, talker=signals[row.talker].talker, speech=signals[row.talker].speech) for row in test_rows]
    entries = [
        *(_signal_entry(signal) for signal in clean_signals),
        *_entries("mixtures", training_rows, split.noise, split.rooms, mixtures.relative_to(folder)),
        *_entries("test", told, split.test_noise, split.test_rooms, test.relative_to(folder)),
    ]
    check_disjoint(entries, chosen)
    for name, rows in (("protocol.csv", entries), ("split.csv", _assignments(sources, split))):
        with replacing(folder / chosen.name / name) as temporary:
            write_table(temporary, rows)
    return Protocol(
        condition=chosen,
        folder=folder,
        speech=folder / "speech",
        mixtures=mixtures / "noisy",
        clean=mixtures / "clean",
        test_noisy=test / "noisy",
        test_clean=test / "clean",
        tests=tuple(
            TestMixture(Path(row.file).stem, test / "noisy" / row.file, test / "clean" / row.file, row.snr_db)
            for row in test_rows
        ),
        test_talkers=len({entry.talker for entry in entries if entry.part == "test"}),
        test_noise_kinds=len({entry.noise_kind for entry in entries if entry.part == "test"}),
        training_fingerprint=_fingerprint(entries),
    )


def check_disjoint(entries: Sequence[Entry], condition: Condition) -> None:
    """Check that no part of a protocol shares with another what it must not share.

    Args:
        entries: All files of a protocol.
        condition: What the test shares with the training.

    Raises:
        DataError: Two parts share a speaker or a speech file, or in a condition that is not matched, training and test
            share a kind of noise, a noise file, a room or a response.
    """
    parts: tuple[Part, ...] = ("speech", "mixtures", "test")
    checks: list[tuple[str, Callable[[Entry], Collection[str]], bool]] = [
        ("speaker", lambda entry: [entry.talker], True),
        ("speech file", lambda entry: _resolved(entry.speech.split("|")), True),
        ("kind of noise", lambda entry: [entry.noise_kind], not condition.matched),
        ("noise file", lambda entry: _resolved([entry.noise]), not condition.matched),
        ("room", lambda entry: [entry.room], not condition.matched),
        ("room response", lambda entry: _resolved([entry.response]), not condition.matched),
    ]
    for what, names_of, must_differ in checks:
        used = {part: {name for e in entries if e.part == part for name in names_of(e) if name} for part in parts}
        for one, other in itertools.combinations(parts, 2):
            shared = sorted(used[one] & used[other])
            if shared and must_differ:
                raise DataError(
                    f"found the {what} {shared[0]} in {one} and in {other} ({len(shared)} in all), expected parts that "
                    "share none: see that every recording stands under one name only."
                )


def _claim(folder: Path, sources: Sources, counts: Counts, seed: int) -> None:
    """Write down what a folder is built from, or see that it is built from the same."""
    manifests = {name: manifest for name, manifest in sources._asdict().items() if manifest is not None}
    choices = {
        "seed": seed,
        "counts": asdict(counts),
        "sources": {name: _hash_of(manifest) for name, manifest in manifests.items()},
    }
    text = json.dumps(choices, indent=2) + "\n"
    recorded = folder / _CHOICES
    if recorded.exists():
        if json.loads(recorded.read_text(encoding="utf-8")) != json.loads(text):
            raise DataError(
                f"found a protocol of another seed, other counts or other recordings in {folder}: give another folder, "
                "or repeat what it was built from."
            )
        return
    if folder.exists() and (not folder.is_dir() or any(not path.name.startswith(".") for path in folder.iterdir())):
        raise DataError(f"found something else than a protocol at {folder}, expected a new folder: choose another.")
    with replacing(recorded) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _hash_of(manifest: Manifest) -> str:
    """Hash of where the recordings are and what they are."""
    known = [(str(r.path), r.group, r.sample_rate, r.frames, round(r.level_db, 3)) for r in manifest.recordings]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


def _seed_of(seed: int, stream: int) -> int:
    """Seed of one part, as a number that stands in its table."""
    return int(np.random.SeedSequence([seed, stream]).generate_state(1)[0])


def _split(sources: Sources, condition: Condition, seed: int) -> _Split:
    """Deal speakers, kinds of noise and rooms out to the parts; conditions of one seed agree on the training."""
    talkers = np.random.default_rng([seed, _SPEAKERS])
    test = sources.test_speech
    training = sources.speech if test is None else _only(sources.speech, set(sources.speech.groups) - set(test.groups))
    needed = len(_SPEAKER_SHARES) - (test is not None)
    if len(training.groups) < needed:
        raise DataError(
            f"found {len(training.groups)} speakers, expected at least {needed}, for clean signals, mixtures and test: "
            "give each speaker a sub-folder, or add speakers."
        )
    if test is None:
        speech, mixtures, test = _divide(training, _SPEAKER_SHARES, talkers)
    else:
        speech, mixtures = _divide(training, _SPEAKER_SHARES[:2] / np.sum(_SPEAKER_SHARES[:2]), talkers)
    noise, test_noise = _training_and_test(
        sources.noise, sources.test_noise, "kinds of noise", np.random.default_rng([seed, _KINDS])
    )
    rooms = test_rooms = Manifest(())
    if condition.in_rooms:
        rooms, test_rooms = _training_and_test(
            sources.rooms or Manifest(()), sources.test_rooms, "rooms", np.random.default_rng([seed, _ROOMS])
        )
    if condition.matched:
        test_noise, test_rooms = noise, rooms
    return _Split(speech, mixtures, test, noise, test_noise, rooms, test_rooms)


def _training_and_test(
    source: Manifest, test: Manifest | None, what: str, rng: np.random.Generator
) -> tuple[Manifest, Manifest]:
    if test is None:
        if len(source.groups) < len(_KIND_SHARES):
            raise DataError(
                f"found {len(source.groups)} {what}, expected at least {len(_KIND_SHARES)}, for training and test: "
                "give each a sub-folder, or add some."
            )
        training, test = _divide(source, _KIND_SHARES, rng)
        return training, test
    training = _only(source, set(source.groups) - set(test.groups))
    if not training.groups:
        raise DataError(
            f"found 0 {what} for training besides the {len(test.groups)} of the test, expected at least 1: add some "
            "that the test does not have."
        )
    return training, test


def _divide(
    manifest: Manifest, shares: Sequence[float] | NDArray[np.float64], rng: np.random.Generator
) -> list[Manifest]:
    """Divide by the number of groups, not by their length: mixtures deal groups out evenly, long and short ones."""
    groups = manifest.groups
    order = [groups[index] for index in rng.permutation(len(groups))]
    edges = [0]
    for part, share in enumerate(np.cumsum(shares[:-1]), start=1):
        # At least one for this part, and one for each part behind it.
        edges.append(min(max(round(share * len(order)), edges[-1] + 1), len(order) - len(shares) + part))
    return [_only(manifest, set(order[start:end])) for start, end in itertools.pairwise([*edges, len(order)])]


def _only(manifest: Manifest, groups: Collection[str]) -> Manifest:
    return Manifest(tuple(recording for recording in manifest.recordings if recording.group in groups))


def _signals(
    speech: Manifest,
    folder: Path,
    *,
    count: int,
    seconds: float,
    seed: int,
    again: bool,
    progress: Callable[[int, int], None] | None,
) -> list[_Signal]:
    """Signals of joined utterances, `<speaker>/<nn>.flac`, dealt out evenly to the speakers.

    With `again`, utterances come again when a speaker has no more; otherwise such a speaker gives no further signal.
    """
    rows = _read_whole(folder, _SIGNALS, _Signal, lambda row: {row.file: row.sha256})
    if rows:
        return rows
    rows = []
    length = round(seconds * SAMPLE_RATE)
    order = deal_out(speech.groups, len(speech.groups), np.random.default_rng(seed))
    given = dict.fromkeys(order, 0)
    draws = {speaker: np.random.default_rng([seed, number]) for number, speaker in enumerate(order)}
    waiting = {
        speaker: _utterances(members(speech, speaker), length, rng, again=again) for speaker, rng in draws.items()
    }
    turns = deque(order)
    with new_folder(folder) as work:
        while turns and len(rows) < count:
            speaker = turns.popleft()
            waveform, paths = _join(waiting[speaker], length, draws[speaker])
            if not paths:
                continue
            turns.append(speaker)
            file = f"{speaker}/{given[speaker]:02d}.flac"
            given[speaker] += 1
            sha256 = write_hashed(work / file, waveform, SAMPLE_RATE)
            names = "|".join(map(str, paths))
            rows.append(_Signal(file, speaker, waveform.size / SAMPLE_RATE, names, seed, sha256))
            if progress is not None:
                progress(len(rows), count)
        if not rows:
            raise DataError(
                f"found no utterance of {_SHORTEST_SECONDS:g} s or more of {', '.join(speech.groups)}, expected speech "
                "for clean or test signals: add longer recordings."
            )
        write_table(work / _SIGNALS, rows)
    return rows


def _utterances(
    recordings: Sequence[Recording], length: int, rng: np.random.Generator, *, again: bool
) -> Iterator[_Utterance]:
    """Utterances of one speaker in a drawn order; recordings longer than `length` come in stretches of that length."""
    stretches = []
    for recording in recordings:
        frames = math.ceil(length * recording.sample_rate / SAMPLE_RATE)
        stretches += [(recording, start, frames) for start in range(0, recording.frames, frames)]
    found = True
    while found:
        found = False
        for index in rng.permutation(len(stretches)):
            recording, start, frames = stretches[index]
            waveform = read_mono(recording, SAMPLE_RATE, start=start, frames=frames)
            level_db = levels.active_speech_db(waveform, SAMPLE_RATE)
            if waveform.size < _SHORTEST_SECONDS * SAMPLE_RATE or level_db < recording.level_db + _PAUSE_DB:
                continue
            found = again
            gain = levels.from_db(_LEVEL_DB - level_db)
            yield _Utterance(recording.path, (gain * _spoken(waveform, level_db)).astype(np.float32))


def _spoken(waveform: NDArray[np.float32], level_db: float) -> NDArray[np.float32]:
    """Cut off what is before the first sound of speech and behind the last."""
    frame, margin = round(_FRAME_SECONDS * SAMPLE_RATE), round(_ONSET_MARGIN_SECONDS * SAMPLE_RATE)
    frames = waveform[: waveform.size // frame * frame].reshape(-1, frame)
    frame_db = levels.to_db(np.sqrt(np.square(frames, dtype=np.float64).mean(axis=1)))
    active = np.flatnonzero(frame_db > level_db + _ONSET_DB)
    return waveform[max(0, active[0] * frame - margin) : (active[-1] + 1) * frame + margin]


def _join(
    utterances: Iterator[_Utterance], length: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], list[Path]]:
    """Join the next utterances with short pauses up to a length; none are left behind those that were taken."""
    parts: list[NDArray[np.float32]] = []
    paths: list[Path] = []
    missing = length
    while missing > 0 and (utterance := next(utterances, None)) is not None:
        pause = np.zeros(round(rng.uniform(*_PAUSE_RANGE_SECONDS) * SAMPLE_RATE), np.float32)
        parts += [utterance.waveform, pause]
        paths.append(utterance.path)
        missing -= utterance.waveform.size + pause.size
    joined = np.concatenate([np.zeros(0, np.float32), *parts])[:length]
    return (levels.peak_gain([joined]) * joined).astype(np.float32), paths


def _one_by_one(folder: Path) -> Manifest:
    """Signals as a group each, so that every one of them is mixed once."""
    signals = scan(folder, min_seconds=0.0).recordings
    return Manifest(tuple(replace(signal, group=signal.path.relative_to(folder).as_posix()) for signal in signals))


def _mixtures(
    speech: Manifest,
    noise: Manifest,
    rooms: Manifest,
    folder: Path,
    *,
    count: int,
    seconds: float | None,
    snr_db: Sequence[float],
    noise_part: tuple[float, float],
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> list[Mixture]:
    """A folder of mixtures: all in rooms, each room as often as any other, or none."""
    rows = _read_whole(
        folder,
        TABLE,
        Mixture,
        lambda row: {f"noisy/{row.file}": row.noisy_sha256, f"clean/{row.file}": row.clean_sha256},
    )
    if rows:
        return rows
    responses: list[Path] = []
    if rooms.groups:
        rng = np.random.default_rng(seed)
        for room in deal_out(rooms.groups, count, rng):
            positions = members(rooms, room)
            responses.append(positions[int(rng.integers(len(positions)))].path)
    return make_mixtures(
        speech,
        noise,
        folder,
        count=count,
        snr_db=snr_db,
        seed=seed,
        responses=responses,
        room_share=1.0 if responses else 0.0,
        seconds=seconds,
        noise_part=noise_part,
        target="dry",
        sample_rate=SAMPLE_RATE,
        progress=progress,
    )


def _read_whole(
    folder: Path, table: str, row: type[_Row], hashes_of: Callable[[_Row], dict[str, str]]
) -> list[_Row] | None:
    """The rows of a part that is there as its table tells; otherwise it is taken away, its working folders too."""
    with contextlib.suppress(DataError):
        rows = read_table(folder / table, row)
        expected = {file: sha256 for one in rows for file, sha256 in hashes_of(one).items()}
        found = {
            path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in folder.rglob("*.flac")
        }
        if found == expected:
            return rows
    for left in (folder, *folder.parent.glob(f".{folder.name}.*")):
        shutil.rmtree(left, ignore_errors=True)
    return None


def _signal_entry(signal: _Signal) -> Entry:
    return Entry(
        part="speech",
        file=f"speech/{signal.file}",
        talker=signal.talker,
        speech=signal.speech,
        noise_kind="",
        noise="",
        noise_offset_seconds=None,
        room="",
        response="",
        snr_db=None,
        seed=signal.seed,
        noisy_sha256="",
        clean_sha256=signal.sha256,
    )


def _entries(part: Part, rows: Sequence[Mixture], noise: Manifest, rooms: Manifest, below: Path) -> list[Entry]:
    kinds, places = ({str(r.path): r.group for r in manifest.recordings} for manifest in (noise, rooms))
    return [
        Entry(
            part=part,
            file=(below / "noisy" / row.file).as_posix(),
            talker=row.talker,
            speech=row.speech,
            noise_kind=kinds[row.noise],
            noise=row.noise,
            noise_offset_seconds=row.noise_offset_seconds,
            room=places[row.room] if row.room else "",
            response=row.room,
            snr_db=row.snr_db,
            seed=row.seed,
            noisy_sha256=row.noisy_sha256,
            clean_sha256=row.clean_sha256,
        )
        for row in rows
    ]


def _assignments(sources: Sources, split: _Split) -> list[_Assignment]:
    """One row per use of a speaker, a kind of noise or a room, and one for each that is not used."""
    speakers: dict[Part, Manifest] = {"speech": split.speech, "mixtures": split.mixtures, "test": split.test}
    kinds: dict[Part, Manifest] = {"mixtures": split.noise, "test": split.test_noise}
    rooms: dict[Part, Manifest] = {"mixtures": split.rooms, "test": split.test_rooms}
    rows: list[_Assignment] = []
    for what, manifests, parts in (
        ("speaker", (sources.speech, sources.test_speech), speakers),
        ("noise", (sources.noise, sources.test_noise), kinds),
        ("room", (sources.rooms, sources.test_rooms), rooms),
    ):
        for name in sorted({group for manifest in manifests if manifest is not None for group in manifest.groups}):
            used = [part for part, manifest in parts.items() if name in manifest.groups]
            rows += [_Assignment(what, name, part) for part in used or ("unused",)]
    return rows


def _fingerprint(entries: Sequence[Entry]) -> str:
    lines = [f"{e.file} {e.noisy_sha256} {e.clean_sha256}\n" for e in entries if e.part != "test"]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _resolved(names: Sequence[str]) -> list[str]:
    """Where files really are: a corpus may be laid out with links."""
    return [str(Path(name).resolve()) for name in names if name]


def _tell(progress: Progress | None, task: str) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    return lambda done, count: progress(task, done, count)
