import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.data.corpora.manifest import Manifest, Recording, Unusable, scan, split
from sottovoce.errors import DataError

from ..synthetic import RATE, write


def test_scan_measures_what_is_there(speech_folder):
    seen = []
    manifest = scan(speech_folder, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(number, 6) for number in range(1, 7)]
    assert manifest.groups == ("anna", "bert", "carl")
    assert {recording.sample_rate for recording in manifest.recordings} == {16000, 22050}
    assert manifest.seconds == pytest.approx(3 * (1.0 + 1.4), abs=1e-3)
    assert all(-40 < recording.level_db < -10 for recording in manifest.recordings)
    assert not manifest.unusable


def test_files_without_folder_are_groups_of_their_own(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / f"{name}.wav", np.full(RATE, 0.1, np.float32))
    assert scan(tmp_path).groups == ("a", "b")


def test_a_level_is_right(tmp_path):
    write(tmp_path / "half.wav", np.full(RATE, 0.5, np.float32))
    assert scan(tmp_path).recordings[0].level_db == pytest.approx(-6.02, abs=0.01)


def test_unusable_files_are_reported_not_fatal(speech_folder):
    (speech_folder / "damaged.wav").write_bytes(b"RIFF and nothing more")
    write(speech_folder / "short.wav", np.ones(100, np.float32))
    write(speech_folder / "silent.wav", np.zeros(RATE, np.float32))
    (speech_folder / "memo.m4a").touch()
    manifest = scan(speech_folder)
    assert len(manifest.recordings) == 6
    assert [entry.path.name for entry in manifest.unusable] == ["damaged.wav", "memo.m4a", "short.wav", "silent.wav"]
    assert "ffmpeg -i memo.m4a memo.flac" in manifest.unusable[1].reason
    assert "0.01 s" in manifest.unusable[2].reason
    assert "silent" in manifest.unusable[3].reason


@pytest.mark.parametrize("name", ["missing", "empty", "useless"])
def test_a_folder_without_recordings_is_an_error(tmp_path, name):
    (tmp_path / "empty").mkdir()
    write(tmp_path / "useless" / "silent.wav", np.zeros(RATE, np.float32))
    with pytest.raises(DataError, match=name):
        scan(tmp_path / name)


def test_a_manifest_is_saved_and_loaded(tmp_path, speech_folder):
    write(speech_folder / "silent.wav", np.zeros(RATE, np.float32))
    manifest = scan(speech_folder)
    manifest.save(tmp_path / "manifest.jsonl")
    assert Manifest.load(tmp_path / "manifest.jsonl") == manifest
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("text", ["no json", '{"path": "a.wav"}', "[1]", '{"reason": "?"}'])
def test_a_foreign_file_is_no_manifest(tmp_path, text):
    path = tmp_path / "manifest.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match="no manifest"):
        Manifest.load(path)


def test_a_missing_manifest_is_reported(tmp_path):
    with pytest.raises(DataError, match="found no manifest"):
        Manifest.load(tmp_path / "manifest.jsonl")


groups = st.lists(st.tuples(st.integers(0, 12), st.integers(1, 10**6)), min_size=1, max_size=60)
shares = st.lists(st.floats(0.05, 1.0), min_size=1, max_size=4)


@given(groups, shares, st.integers(0, 2**32))
def test_parts_are_disjoint_and_complete(tmp_path_factory, groups, shares, seed):
    recordings = tuple(
        Recording(tmp_path_factory.getbasetemp() / str(index), str(group), RATE, 1, frames, -30.0)
        for index, (group, frames) in enumerate(groups)
    )
    manifest = Manifest(recordings, (Unusable(tmp_path_factory.getbasetemp(), "why"),))
    fractions = [share / sum(shares) for share in shares]
    if len(manifest.groups) < len(fractions):
        with pytest.raises(DataError, match="speakers or sessions"):
            split(manifest, fractions, np.random.default_rng(seed))
        return
    parts = split(manifest, fractions, np.random.default_rng(seed))
    assert len(parts) == len(fractions)
    assert sorted(group for part in parts for group in part.groups) == list(manifest.groups)
    assert {r for part in parts for r in part.recordings} == set(recordings)
    assert all(part.recordings for part in parts)
    assert parts == split(manifest, fractions, np.random.default_rng(seed))


def test_parts_have_the_wanted_length(tmp_path):
    recordings = tuple(Recording(tmp_path / str(i), str(i), RATE, 1, RATE, -30.0) for i in range(100))
    parts = split(Manifest(recordings), (0.7, 0.2, 0.1), np.random.default_rng(0))
    assert [part.seconds for part in parts] == pytest.approx([70, 20, 10], abs=1)


@pytest.mark.parametrize("fractions", [(), (0.5, 0.4), (1.5, -0.5)])
def test_fractions_must_be_shares(tmp_path, fractions):
    manifest = Manifest((Recording(tmp_path / "a", "a", RATE, 1, RATE, -30.0),))
    with pytest.raises(DataError, match="fractions"):
        split(manifest, fractions, np.random.default_rng(0))
