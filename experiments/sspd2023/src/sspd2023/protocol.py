"""The data of the poster's experiment, from any corpora: a few clean signals, mixtures of other speakers, and a test.

Training is unpaired: the clean signals are of other speakers than the mixtures. The test has speakers who are in no
training, and by its condition other noises and rooms as well.

Source:
    Y. Li, Y. Sun, W. Wang, S. M. Naqvi, SSPD 2023: 28 clean signals, 392 mixtures and 140 test mixtures.
"""

import hashlib
import itertools
import json
import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from sottovoce.atomic import replacing
from sottovoce.data.corpora.folders import read_or_clear, write_table
from sottovoce.data.corpora.manifest import Manifest, scan
from sottovoce.data.simulation.mixtures import TABLE, Mixture, deal_out, make_mixtures, members
from sottovoce.errors import ConfigError, DataError
from sottovoce.progress import Progress, TaskProgress, part
from sspd2023.baselines.system import SAMPLE_RATE
from sspd2023.signals import Signal, make_signals
from sspd2023.split import CONDITIONS, Condition, Part, Sources, assignments, split_sources

_log = logging.getLogger(f"sottovoce.{__name__}")  # commands print what the product's log says


_TRAINING_NOISE, _MATCHED_TEST_NOISE, _WHOLE_NOISE = (0.0, 0.75), (0.75, 1.0), (0.0, 1.0)
_CHOICES = "choices.json"
# Every draw has a stream of its own, so that none depends on how many numbers another took; `split` has those below.
_CLEAN, _MIXTURES, _TEST_SPEECH, _TEST = range(3, 7)


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
                "least one ratio: change them"
            )


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
        test_speakers: Number of speakers in the test.
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
    test_speakers: int
    test_noise_kinds: int
    training_fingerprint: str


@dataclass(frozen=True)
class Entry:
    """How one file of a protocol was made: a row of `protocol.csv`.

    Attributes:
        part: What the file is for.
        file: The file, from the protocol's folder.
        speaker: Who speaks.
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
    speaker: str
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


def build(
    sources: Sources, condition: str, counts: Counts, folder: Path, seed: int, *, progress: Progress | None = None
) -> Protocol:
    """Make the data of one condition, or find it made.

    Parts appear as a whole or not at all, and a part is made only where it is missing or damaged: a build that was
    stopped goes on where it was. One process at a time builds in a folder. Equal sources, counts and seeds give equal
    audio files. Beside the audio stand `protocol.csv`, which says how every file was made, and `split.csv`, which
    says what every speaker, kind of noise and room is used for.

    Args:
        sources: Speech, noise and rooms.
        condition: Name of one of `split.CONDITIONS`.
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
        raise ConfigError(f"found the condition {condition!r}, expected one of {', '.join(CONDITIONS)}: choose one")
    chosen = CONDITIONS[condition]
    split = split_sources(sources, chosen, seed)
    _claim(folder, sources, counts, seed)
    reverberation = "reverberant" if chosen.in_rooms else "dry"
    mixtures, test = folder / f"mixtures-{reverberation}", folder / chosen.name / "test"

    clean_signals = make_signals(
        split.speech,
        folder / "speech",
        count=counts.clean_signals,
        seconds=counts.clean_seconds,
        seed=_seed_of(seed, _CLEAN),
        again=False,
        progress=part(progress, "clean signals"),
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
        progress=part(progress, f"{reverberation} training mixtures"),
    )
    test_signals = make_signals(
        split.test,
        folder / "test-speech",
        count=counts.test_mixtures,
        seconds=counts.test_seconds,
        seed=_seed_of(seed, _TEST_SPEECH),
        again=True,
        progress=part(progress, "test signals"),
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
        progress=part(progress, f"test mixtures of {chosen.name!r}"),
    )

    signals = {signal.file: signal for signal in test_signals}
    # For the mixing every signal was a speaker of its own; here the row names the real speaker and utterances.
    restored = [
        replace(row, speaker=signals[row.speaker].speaker, speech=signals[row.speaker].speech) for row in test_rows
    ]
    entries = [
        *(_signal_entry(signal) for signal in clean_signals),
        *_entries("mixtures", training_rows, split.noise, split.rooms, mixtures.relative_to(folder)),
        *_entries("test", restored, split.test_noise, split.test_rooms, test.relative_to(folder)),
    ]
    check_disjoint(entries, chosen)
    for name, rows in (("protocol.csv", entries), ("split.csv", assignments(sources, split))):
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
        test_speakers=len({entry.speaker for entry in entries if entry.part == "test"}),
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
        ("speaker", lambda entry: [entry.speaker], True),
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
                    "share none: see that every recording stands under one name only"
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
                "or repeat what it was built from"
            )
        return
    if folder.exists() and (not folder.is_dir() or any(not path.name.startswith(".") for path in folder.iterdir())):
        raise DataError(f"found something else than a protocol at {folder}, expected a new folder: choose another")
    with replacing(recorded) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _hash_of(manifest: Manifest) -> str:
    """Hash of where the recordings are and what they are."""
    known = [(str(r.path), r.group, r.sample_rate, r.frames, round(r.level_db, 3)) for r in manifest.recordings]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


def _seed_of(seed: int, stream: int) -> int:
    """Seed of one part, as a number that stands in its table."""
    return int(np.random.SeedSequence([seed, stream]).generate_state(1)[0])


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
    progress: TaskProgress | None,
) -> list[Mixture]:
    """A folder of mixtures: all in rooms, each room as often as any other, or none."""
    rows = read_or_clear(
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


def _signal_entry(signal: Signal) -> Entry:
    return Entry(
        part="speech",
        file=f"speech/{signal.file}",
        speaker=signal.speaker,
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
            speaker=row.speaker,
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


def _fingerprint(entries: Sequence[Entry]) -> str:
    lines = [f"{e.file} {e.noisy_sha256} {e.clean_sha256}\n" for e in entries if e.part != "test"]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _resolved(names: Sequence[str]) -> list[str]:
    """Where files really are: a corpus may be laid out with links."""
    return [str(Path(name).resolve()) for name in names if name]
