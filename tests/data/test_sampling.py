"""What a training step draws: a function of seed and step, with speech and recordings independent of each other."""

import numpy as np
import pytest

from sottovoce.data import sampling
from sottovoce.data.corpora.manifest import scan
from sottovoce.data.sampling import PURPOSES

from .drawn import drawn, recordings
from .synthetic import RATE, tone, write


def same(one, other):
    return [np.array_equal(a, b) for a, b in zip(one, other, strict=True)]


@pytest.mark.parametrize("purpose", PURPOSES)
def test_seed_purpose_and_step_tell_everything(speech, mixtures, purpose):
    first = drawn(speech, mixtures).batch(7, purpose)
    assert all(same(first, drawn(speech, mixtures).batch(7, purpose)))
    for other in (
        drawn(speech, mixtures).batch(8, purpose),
        drawn(speech, mixtures, seed=2).batch(7, purpose),
    ):
        # All but what is kept of the rooms, which is the same for all here.
        assert not any(same(first, other)[part] for part in range(len(first) - 1) if first[part].size)
    assert all(clips.dtype == np.float32 for clips in first)
    *signals, rooms = first
    assert all(clips.shape[1] == 1.5 * RATE for clips in signals)
    assert rooms.shape[1] == 2
    every = (3, 3, 2, 3, 3, 3, 3)
    counts = {"speech": (3, 0, 0, 0, 0, 0, 0), "joint": (0, *every[1:]), "check": every, "joint learning": every}
    assert tuple(map(len, first)) == counts[purpose]


def test_batches_do_not_depend_on_those_before(speech, mixtures):
    clips = drawn(speech, mixtures)
    wanted = clips.batch(3, "check")
    clips.batch(0, "joint")
    assert all(same(wanted, clips.batch(3, "check")))


def test_other_recordings_leave_the_speech_alone(tmp_path, speech, mixtures):
    other = recordings(tmp_path / "other", 11, seconds=2.5)
    one, two = (drawn(speech, each).batch(5, "check") for each in (mixtures, other))
    assert np.array_equal(one.speech, two.speech)
    assert not np.array_equal(one.mixtures, two.mixtures)


def test_other_speech_leaves_the_recordings_alone(tmp_path, speech, mixtures):
    write(tmp_path / "other" / "dora" / "0.wav", tone(3.0, 180, np.random.default_rng(5)))
    one, two = (drawn(each, mixtures).batch(5, "check") for each in (speech, scan(tmp_path / "other")))
    assert not np.array_equal(one.speech, two.speech)
    assert np.array_equal(one.mixtures, two.mixtures)
    assert np.array_equal(one.noise, two.noise)


def test_what_is_chosen_is_unpaired(tmp_path, monkeypatch):
    """Every recording is a level of its own, so that its clips identify it: the two choices share no information."""
    kinds, steps = 4, 1500
    for folder in ("speech", "mixtures"):
        for kind in range(kinds):
            write(tmp_path / folder / str(kind) / "0.wav", np.full(RATE, 0.1 * (kind + 1), np.float32))
    clips = drawn(
        scan(tmp_path / "speech"),
        (scan(tmp_path / "mixtures"), []),
        clip_seconds=0.25,
        speech_clips=1,
        mixture_clips=1,
        noise_clips=0,
        simulated_clips=0,
    )
    # The level of clips is drawn as well: it is held here, so that the level identifies the recording.
    monkeypatch.setattr(sampling, "at_random_level", lambda clip, level_db, rng: clip)
    chosen = [clips.batch(step, "check") for step in range(steps)]
    pairs = np.array([[round(float(batch[part].max()) * 10) - 1 for part in (0, 1)] for batch in chosen])

    def information(speech, mixtures):
        joint = np.zeros((kinds, kinds))
        np.add.at(joint, (speech, mixtures), 1 / steps)
        independent = np.outer(joint.sum(1), joint.sum(0))
        return float((joint[joint > 0] * np.log(joint[joint > 0] / independent[joint > 0])).sum())

    assert np.all(np.bincount(pairs[:, 0]) > steps / kinds / 2)
    assert np.all(np.bincount(pairs[:, 1]) > steps / kinds / 2)
    rng = np.random.default_rng(0)
    by_chance = [information(pairs[:, 0], rng.permutation(pairs[:, 1])) for _ in range(200)]
    assert information(*pairs.T) <= np.max(by_chance)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(speech, mixtures, workers):
    torch = pytest.importorskip("torch")
    from sottovoce.training.module import loader

    clips = drawn(speech, mixtures)
    alone, helped = (list(loader(clips, "joint", range(3, 8), count)) for count in (0, workers))
    assert len(alone) == len(helped) == 5
    for one, other in zip(alone, helped, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    # A resumed training goes on in the middle.
    resumed = next(iter(loader(clips, "joint", range(5, 8), workers)))
    assert all(torch.equal(a, b) for a, b in zip(alone[2], resumed, strict=True))
