from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.data.corpora.manifest import Manifest, Recording
from sottovoce.errors import DataError
from sspd2023.split import CONDITIONS, Sources, assignments, split_sources

SEEDS = st.integers(0, 2**31)


def manifest(what, groups):
    """Two recordings of each group; a split reads none."""
    return Manifest(
        tuple(
            Recording(Path(what) / group / f"{number}.wav", group, 16000, 1, 16000, -26.0)
            for group in groups
            for number in range(2)
        )
    )


def names(what, count):
    return [f"{what}{number:02d}" for number in range(count)]


def make_sources(speakers=8, kinds=4, rooms=4):
    return Sources(
        manifest("speech", names("speaker", speakers)),
        manifest("noise", names("kind", kinds)),
        manifest("rooms", names("room", rooms)),
    )


@given(st.integers(3, 40), st.integers(2, 20), st.integers(2, 20), SEEDS)
def test_everything_has_one_use(speakers, kinds, rooms, seed):
    sources = make_sources(speakers, kinds, rooms)
    split = split_sources(sources, CONDITIONS["poster"], seed)
    for source, parts in (
        (sources.speech, (split.speech, split.mixtures, split.test)),
        (sources.noise, (split.noise, split.test_noise)),
        (sources.rooms, (split.rooms, split.test_rooms)),
    ):
        assert all(part.groups for part in parts)
        assert sorted(group for part in parts for group in part.groups) == sorted(source.groups)
        assert sorted(map(str, (r.path for part in parts for r in part.recordings))) == sorted(
            str(r.path) for r in source.recordings
        )


def test_shares_of_speakers_kinds_and_rooms():
    sources = make_sources(20, 6, 3)
    split = split_sources(sources, CONDITIONS["poster"], 1)
    assert Counter((row.what, row.part) for row in assignments(sources, split)) == {
        ("speaker", "speech"): 6,
        ("speaker", "mixtures"): 9,
        ("speaker", "test"): 5,
        ("noise", "mixtures"): 4,
        ("noise", "test"): 2,
        ("room", "mixtures"): 2,
        ("room", "test"): 1,
    }


@given(SEEDS)
def test_conditions_of_one_seed_agree_on_the_training(seed):
    sources = make_sources()
    poster, matched, dry = (split_sources(sources, CONDITIONS[name], seed) for name in ("poster", "matched", "dry"))
    for other in (matched, dry):
        assert other[:2] == poster[:2]
        assert (other.test, other.noise) == (poster.test, poster.noise)
    assert matched.rooms == poster.rooms
    assert (matched.test_noise, matched.test_rooms) == (poster.noise, poster.rooms)
    assert dry.rooms == dry.test_rooms == Manifest(())


@given(SEEDS)
def test_what_the_test_is_given_is_not_trained_on(seed):
    sources = make_sources()._replace(
        test_speech=manifest("other", names("speaker", 3)),
        test_noise=manifest("other", names("kind", 2)),
        test_rooms=manifest("other", names("room", 1)),
    )
    split = split_sources(sources, CONDITIONS["poster"], seed)
    assert (split.test, split.test_noise, split.test_rooms) == sources[3:]
    assert sorted(split.speech.groups + split.mixtures.groups) == names("speaker", 8)[3:]
    assert split.noise.groups == tuple(names("kind", 4)[2:])
    assert split.rooms.groups == tuple(names("room", 4)[1:])


def test_what_is_not_used_is_reported():
    sources = make_sources()
    rows = assignments(sources, split_sources(sources, CONDITIONS["dry"], 1))
    assert {row.name for row in rows if row.part == "unused"} == set(names("room", 4))
    matched = assignments(sources, split_sources(sources, CONDITIONS["matched"], 1))
    uses = Counter(row.name for row in matched)
    assert all(uses[row.name] == 2 for row in matched if row.what != "speaker" and row.part == "test")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"speech": manifest("speech", names("speaker", 2))}, "found 2 speakers, expected at least 3"),
        ({"noise": manifest("noise", ["kind00"])}, "found 1 kinds of noise, expected at least 2"),
        ({"rooms": None}, "found 0 rooms, expected at least 2"),
        (
            {"test_noise": manifest("noise", names("kind", 4))},
            "found 0 kinds of noise for training besides the 4 of the test",
        ),
    ],
)
def test_too_few_are_reported(changes, sentence):
    with pytest.raises(DataError, match=sentence):
        split_sources(make_sources()._replace(**changes), CONDITIONS["poster"], 1)
