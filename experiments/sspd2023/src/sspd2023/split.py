"""Who speaks, what sounds and where in each part of an experiment: speakers, kinds of noise and rooms, dealt out."""

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sottovoce.data.corpora.manifest import Manifest
from sottovoce.errors import DataError

Part = Literal["speech", "mixtures", "test"]
"""Clean signals, training mixtures and test mixtures."""

_SPEAKER_SHARES = np.array([0.30, 0.45, 0.25])  # of the speech autoencoder, the mixtures and the test
_KIND_SHARES = (2 / 3, 1 / 3)  # of training and test
# Every draw has a stream of its own, so that none depends on how many numbers another took; those of the sound itself
# have the next numbers, in `protocol`.
_SPEAKERS, _KINDS, _ROOMS = range(3)


@dataclass(frozen=True)
class Condition:
    """What is known and what is new in a test.

    Attributes:
        name: Short name, also of its folder.
        description: One sentence.
        in_rooms: Speech of training mixtures and test is in measured rooms.
        matched: Noises and rooms of the test are those of the training.
    """

    name: str
    description: str
    in_rooms: bool
    matched: bool


CONDITIONS = {
    condition.name: condition
    for condition in (
        Condition("poster", "Reverberant; speakers, noises and rooms that are not in the training.", True, False),
        Condition("matched", "Reverberant; other speakers, and other excerpts of the training's noises.", True, True),
        Condition("dry", "No rooms; speakers and noises that are not in the training.", False, False),
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


class Split(NamedTuple):
    """Sources by the part that they are used in.

    Attributes:
        speech: Clean speech of the speech autoencoder.
        mixtures: Clean speech of the training mixtures.
        test: Clean speech of the test.
        noise: Noise of the training mixtures.
        test_noise: Noise of the test.
        rooms: Rooms of the training mixtures; empty in a condition without rooms.
        test_rooms: Rooms of the test; likewise.
    """

    speech: Manifest
    mixtures: Manifest
    test: Manifest
    noise: Manifest
    test_noise: Manifest
    rooms: Manifest
    test_rooms: Manifest


@dataclass(frozen=True)
class Assignment:
    """What a speaker, a kind of noise or a room is used for: a row of `split.csv`.

    Attributes:
        what: `speaker`, `noise` or `room`.
        name: Its name.
        part: The part of the experiment that uses it, or `unused`.
    """

    what: str
    name: str
    part: str


def split_sources(sources: Sources, condition: Condition, seed: int) -> Split:
    """Deal speakers, kinds of noise and rooms out to the parts; conditions of one seed agree on the training.

    Args:
        sources: Speech, noise and rooms.
        condition: What the test shares with the training.
        seed: Seed of all draws, >= 0.

    Returns:
        The sources of every part.

    Raises:
        DataError: There are too few speakers, kinds of noise or rooms.
    """
    draws = np.random.default_rng([seed, _SPEAKERS])
    test = sources.test_speech
    training = sources.speech if test is None else _only(sources.speech, set(sources.speech.groups) - set(test.groups))
    needed = len(_SPEAKER_SHARES) - (test is not None)
    if len(training.groups) < needed:
        raise DataError(
            f"found {len(training.groups)} speakers, expected at least {needed}, for clean signals, mixtures and test: "
            "give each speaker a sub-folder, or add speakers"
        )
    if test is None:
        speech, mixtures, test = _divide(training, _SPEAKER_SHARES, draws)
    else:
        speech, mixtures = _divide(training, _SPEAKER_SHARES[:2] / np.sum(_SPEAKER_SHARES[:2]), draws)
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
    return Split(speech, mixtures, test, noise, test_noise, rooms, test_rooms)


def assignments(sources: Sources, split: Split) -> list[Assignment]:
    """Say what everything is used for.

    Args:
        sources: All speech, noise and rooms.
        split: What was made of them.

    Returns:
        One row per use of a speaker, a kind of noise or a room, and one for each that is not used.
    """
    speakers: dict[Part, Manifest] = {"speech": split.speech, "mixtures": split.mixtures, "test": split.test}
    kinds: dict[Part, Manifest] = {"mixtures": split.noise, "test": split.test_noise}
    rooms: dict[Part, Manifest] = {"mixtures": split.rooms, "test": split.test_rooms}
    rows: list[Assignment] = []
    for what, manifests, parts in (
        ("speaker", (sources.speech, sources.test_speech), speakers),
        ("noise", (sources.noise, sources.test_noise), kinds),
        ("room", (sources.rooms, sources.test_rooms), rooms),
    ):
        for name in sorted({group for manifest in manifests if manifest is not None for group in manifest.groups}):
            used = [part for part, manifest in parts.items() if name in manifest.groups]
            rows += [Assignment(what, name, part) for part in used or ("unused",)]
    return rows


def _training_and_test(
    source: Manifest, test: Manifest | None, what: str, rng: np.random.Generator
) -> tuple[Manifest, Manifest]:
    if test is None:
        if len(source.groups) < len(_KIND_SHARES):
            raise DataError(
                f"found {len(source.groups)} {what}, expected at least {len(_KIND_SHARES)}, for training and test: "
                "give each a sub-folder, or add some"
            )
        training, test = _divide(source, _KIND_SHARES, rng)
        return training, test
    training = _only(source, set(source.groups) - set(test.groups))
    if not training.groups:
        raise DataError(
            f"found 0 {what} for training besides the {len(test.groups)} of the test, expected at least 1: add some "
            "that the test does not have"
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
