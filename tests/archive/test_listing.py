"""Manifests of real files: in order, once each, and what cannot be read is listed and said."""

import hashlib
import os
import sys

import numpy as np
import pytest
import soundfile as sf

from sottovoce.archive import listing
from sottovoce.archive.listing import make_manifest
from sottovoce.engine.workers import Workers
from sottovoce.errors import AudioError, ConfigError, DataError


def listed(manifest):
    return [item for part in manifest.parts for item in manifest.read(part)]


@pytest.fixture(autouse=True)
def _here(here):
    pass


def test_recordings_are_listed_in_order_with_what_they_are(tmp_path, recordings):
    manifest = make_manifest([recordings], tmp_path / "manifest", part_items=3, jobs=2)
    items = listed(manifest)
    assert [item.id for item in items] == ["a/b/d.wav", "a/c.flac", "a.wav", "b.wav"]
    assert [part.items for part in manifest.parts] == [3, 1]
    content = (recordings / "b.wav").read_bytes()
    assert items[3].uri == (recordings / "b.wav").as_uri()
    assert (items[3].bytes, items[3].seconds) == (len(content), 0.1)
    assert items[3].hash == hashlib.sha256(content).hexdigest()


def test_without_hashes_no_file_is_read_whole(tmp_path, recordings):
    manifest = make_manifest([recordings], tmp_path / "manifest", hashes=False)
    assert {item.hash for item in listed(manifest)} == {None}


def test_what_cannot_be_read_is_listed_and_said(tmp_path, recordings, caplog):
    (recordings / "b.wav").write_text("no sound")
    (recordings / "a" / "empty.wav").touch()
    sf.write(recordings / "zero.wav", np.zeros(0), 16000)
    items = {item.id: item for item in listed(make_manifest([recordings], tmp_path / "manifest"))}
    unreadable = ["b.wav", "a/empty.wav", "zero.wav"]
    assert [items[name].seconds for name in unreadable] == [None] * 3
    assert [items[name].bytes for name in unreadable] == [8, 0, (recordings / "zero.wav").stat().st_size]
    assert len(items) == 6
    assert len(caplog.messages) == 3
    assert any("zero.wav holds no samples" in message for message in caplog.messages)


def test_a_decoder_that_raises_what_nobody_expects(tmp_path, recordings, monkeypatch, caplog):
    def probe(path):
        if path.name == "b.wav":
            raise RuntimeError("bad state")
        return found(path)

    found = listing.probe
    monkeypatch.setattr(listing, "probe", probe)
    *others, b = listed(make_manifest([recordings], tmp_path / "manifest"))
    assert [item.seconds for item in others] == [0.1] * 3
    assert (b.id, b.seconds, b.hash, b.bytes) == ("b.wav", None, None, (recordings / "b.wav").stat().st_size)
    assert [message.rpartition("/")[2] for message in caplog.messages] == ["b.wav: bad state"]


def test_of_many_that_cannot_be_read_few_are_named(tmp_path, caplog):
    for number in range(15):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"{number}.wav").write_text("no sound")
    manifest = make_manifest([tmp_path / "in"], tmp_path / "manifest")
    assert manifest.items == 15
    assert len(caplog.messages) == 11
    assert caplog.messages[-1].startswith("15 recordings cannot be read now")


def test_a_file_that_ends_the_process_is_listed(tmp_path, recordings, monkeypatch, caplog):
    monkeypatch.setattr(listing, "Workers", Workers)
    (tmp_path / "dying_look.py").write_text(
        "import os\n"
        "from sottovoce.archive.listing import look_at as look\n"
        "def look_at(hashes, files, *, advance):\n"
        "    if any(file.id == 'a.wav' for file in files):\n"
        "        os.abort()\n"
        "    return look(hashes, files, advance=advance)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import dying_look

    monkeypatch.setattr(listing, "look_at", dying_look.look_at)
    items = listed(make_manifest([recordings], tmp_path / "manifest"))
    assert [(item.id, item.seconds) for item in items][1:] == [("a/c.flac", 0.1), ("a.wav", None), ("b.wav", 0.1)]
    assert "made the process crash that read it (signal 6" in caplog.text
    sys.modules.pop("dying_look")


def test_what_was_named_twice_is_listed_once(tmp_path, recordings, caplog):
    inputs = [recordings / "a", recordings / "b.wav", recordings, recordings]
    items = listed(make_manifest(inputs, tmp_path / "manifest"))
    assert [item.id for item in items] == ["a/b/d.wav", "a/c.flac", "a.wav", "b.wav"]
    assert len(caplog.messages) == 3


def test_equal_names_in_two_folders_stay_two(tmp_path, save):
    folders = [save(tmp_path / name / "a.wav").parent for name in ("one", "two")]
    items = listed(make_manifest(folders, tmp_path / "manifest"))
    assert [item.id for item in items] == ["a.wav", "a.wav"]
    assert len({item.output_name for item in items}) == 2


@pytest.mark.skipif(os.name != "posix", reason="links")
def test_a_link_to_a_folder_is_not_followed(tmp_path, recordings):
    (recordings / "a" / "loop").symlink_to(recordings)
    assert make_manifest([recordings], tmp_path / "manifest").items == 4


@pytest.mark.parametrize(
    ("inputs", "keywords", "error", "words"),
    [
        (["missing"], {}, AudioError, "found nothing at .*missing"),
        ([], {}, DataError, "found no input"),
        (["."], {}, AudioError, "found no recording in the folder"),
        (["."], {"jobs": 0}, ConfigError, "0 jobs"),
        (["."], {"part_items": 0}, ConfigError, "0 items"),
    ],
)
def test_what_cannot_be_listed_is_said_and_nothing_is_made(tmp_path, inputs, keywords, error, words):
    (tmp_path / "in").mkdir()
    with pytest.raises(error, match=words):
        make_manifest([tmp_path / "in" / name for name in inputs], tmp_path / "manifest", **keywords)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
