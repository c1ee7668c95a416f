"""Manifests: parts and an index, whole or absent, whatever the names are; what was cut or edited is said."""

import hashlib
import json
import os
import tracemalloc

import pytest

from sottovoce.archive.manifest import INDEX_NAME, Item, Manifest, write_manifest
from sottovoce.errors import AudioError, ConfigError, DataError, MissingExtraError


def items(count):
    return (Item(f"talks/{n}.wav", f"file:///data/talks/{n}.wav", 32044, 1.0, f"{n:064x}") for n in range(count))


def test_parts_hold_the_items_in_order(tmp_path):
    written = write_manifest(items(25), tmp_path / "manifest", part_items=10)
    manifest = Manifest.open(tmp_path / "manifest")
    assert manifest == written
    assert [part.name for part in manifest.parts] == ["part-000000.jsonl", "part-000001.jsonl", "part-000002.jsonl"]
    assert [(part.items, part.seconds, part.bytes) for part in manifest.parts[1:]] == [
        (10, 10.0, 320440),
        (5, 5.0, 160220),
    ]
    assert (manifest.items, manifest.seconds) == (25, 25.0)
    assert [item for part in manifest.parts for item in manifest.read(part)] == list(items(25))


def test_equal_items_give_equal_files(tmp_path):
    for name in "ab":
        write_manifest(items(12), tmp_path / name, part_items=5)
    assert [
        (path.name, path.read_bytes() == (tmp_path / "b" / path.name).read_bytes())
        for path in sorted((tmp_path / "a").iterdir())
    ] == [("index.json", True), *((f"part-{n:06}.jsonl", True) for n in range(3))]


def test_memory_does_not_grow_with_the_items(tmp_path):
    peaks = []
    for count in (300, 3_000):
        tracemalloc.start()
        write_manifest(items(count), tmp_path / str(count), part_items=100)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # The index grows by some hundred bytes for each part.
    assert peaks[1] < peaks[0] + 2**17


def test_nothing_is_left_of_a_manifest_that_fails(tmp_path):
    def failing():
        yield from items(15)
        raise AudioError("no room")

    with pytest.raises(AudioError, match="no room"):
        write_manifest(failing(), tmp_path / "manifest", part_items=10)
    with pytest.raises(DataError, match="found no recording"):
        write_manifest([], tmp_path / "manifest")
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_kept(tmp_path):
    write_manifest(items(1), tmp_path / "manifest")
    before = (tmp_path / "manifest" / INDEX_NAME).read_bytes()
    with pytest.raises(DataError, match="is kept: name another output"):
        write_manifest(items(2), tmp_path / "manifest")
    assert (tmp_path / "manifest" / INDEX_NAME).read_bytes() == before


def test_a_folder_without_an_index_is_no_manifest(tmp_path):
    with pytest.raises(DataError, match=r"found no index.json in .*: `sottovoce archive make` writes one"):
        Manifest.open(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"format": "sottovoce-manifest-1"}',
        b'{"format": "sottovoce-manifest-1", "parts": [{"name": "a"}]}',
        json.dumps(
            {
                "format": "sottovoce-manifest-1",
                "parts": [{"name": "../../etc/passwd", "items": 1, "seconds": 1.0, "bytes": 1, "sha256": ""}],
            }
        ).encode(),
        b"[" * 100_000,
    ],
)
def test_an_altered_index(tmp_path, content):
    (tmp_path / INDEX_NAME).write_bytes(content)
    with pytest.raises(DataError, match="cut or was altered"):
        Manifest.open(tmp_path)


def test_an_index_of_a_later_version(tmp_path):
    (tmp_path / INDEX_NAME).write_text('{"format": "sottovoce-manifest-9", "parts": []}')
    with pytest.raises(DataError, match="found the format 'sottovoce-manifest-9'"):
        Manifest.open(tmp_path)


def test_a_cut_an_edited_and_a_missing_part(tmp_path):
    manifest = write_manifest(items(30), tmp_path / "manifest", part_items=10)
    paths = [manifest.store.path / part.name for part in manifest.parts]
    paths[0].write_bytes(paths[0].read_bytes()[:500])
    paths[1].write_text(paths[1].read_text().replace("/data/", "/other/"))
    paths[2].unlink()
    for part, words in zip(
        manifest.parts,
        ["found 4 lines, expected 10; it is cut", "found 10 lines, expected 10; .* edited", "cannot read .*000002"],
        strict=True,
    ):
        with pytest.raises(DataError, match=words):
            manifest.read(part)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("no JSON", "line 1 is no recording"),
        ("[1]", "line 1 is no recording"),
        ('{"id": "a"}', "line 1 is no recording"),
        ('{"id": "a", "uri": "file:///a", "more": 1}', "line 1 is no recording"),
        ('{"id": "", "uri": "file:///a"}', "has the id ''"),
        ('{"id": "a", "uri": 5}', "has the uri 5"),
        ('{"id": "a", "uri": "file:///a", "bytes": -1}', "has the bytes -1"),
        ('{"id": "a", "uri": "file:///a", "seconds": NaN}', "has the seconds nan"),
        ('{"id": "a", "uri": "file:///a", "hash": 3}', "has the hash 3"),
    ],
)
def test_a_line_that_is_no_recording(tmp_path, line, words):
    content = f"{line}\n".encode()
    (tmp_path / "part-000000.jsonl").write_bytes(content)
    part = {"name": "part-000000.jsonl", "items": 1, "seconds": 0, "bytes": 0}
    part["sha256"] = hashlib.sha256(content).hexdigest()
    (tmp_path / INDEX_NAME).write_text(json.dumps({"format": "sottovoce-manifest-1", "parts": [part]}))
    manifest = Manifest.open(tmp_path)
    with pytest.raises(DataError, match=words):
        manifest.read(manifest.parts[0])


@pytest.mark.parametrize("name", ["a b.wav", "a#b?.wav", "Größe.wav", "a%20b.wav", "line\nend.wav"])
def test_an_address_leads_to_its_file(tmp_path, name):
    path = tmp_path / name
    assert Item("a", path.as_uri()).path == path


@pytest.mark.skipif(os.name != "posix", reason="names of bytes")
def test_an_address_of_a_name_that_is_no_text(tmp_path):
    path = tmp_path / os.fsdecode(b"a\xff.wav")
    assert Item("a", path.as_uri()).path == path
    assert path.as_uri().isascii()


@pytest.mark.parametrize(
    "uri", ["a.wav", "/data/a.wav", "s3://bucket/a.wav", "file://", "file://host/a.wav", "file:///a%00b", "http://[a"]
)
def test_another_address_is_refused(uri):
    with pytest.raises(AudioError, match="found the address"):
        Item("a", uri).path  # noqa: B018


@pytest.mark.parametrize(
    ("id", "start"),
    [
        ("speaker/a.wav", "speaker/a-"),
        ("../../etc/a.wav", "etc/a-"),
        ("/etc/a.wav", "etc/a-"),
        ("..", "_-"),
        ("a/../b.wav", "a/b-"),
        (".hidden/.a.wav", "_hidden/_a-"),
        ("a\\b:c\n.wav", "a_b_c_-"),
        ("Größe/音.wav", "Größe/音-"),
        ("a" * 300 + ".wav", "a" * 50 + "-"),
        ("call 17", "call_17-"),
    ],
)
def test_an_output_lies_in_its_folder_whatever_the_name_is(tmp_path, id, start):
    name = Item(id, "file:///data/x.wav").output_name
    assert name.startswith(start)
    assert name.endswith(".wav")
    assert (tmp_path / name).resolve().is_relative_to(tmp_path)
    assert max(len(part.encode()) for part in name.split("/")) < 250


def test_an_output_is_named_by_all_that_makes_the_recording():
    first = Item("a.wav", "file:///1/a.wav", 100, 1.0, "f0")
    others = [
        Item("a.wav", "file:///2/a.wav", 100, 1.0, "f0"),
        Item("a.wav", "file:///1/a.wav", 101, 1.0, "f0"),
        Item("a.wav", "file:///1/a.wav", 100, 1.0, "f1"),
        Item("b.wav", "file:///1/a.wav", 100, 1.0, "f0"),
    ]
    assert len({item.output_name for item in (first, *others)}) == 5
    assert Item("a.wav", "file:///1/a.wav", 100, None, "f0").output_name == first.output_name


@pytest.mark.parametrize(
    ("uri", "suffix"),
    [("file:///a.flac", ".flac"), ("file:///a.wma", ".wav"), ("file:///b.c/a", ".wav"), ("http://[a", ".wav")],
)
def test_what_is_not_written_becomes_a_wav(uri, suffix):
    assert Item("a", uri).output_name.endswith(suffix)


@pytest.fixture
def parquet(tmp_path):
    """A manifest in Parquet of 25 items in three parts."""
    pytest.importorskip("pyarrow")
    unknown = Item("talks/é.wav", "s3://b/é.wav")
    return write_manifest([*items(24), unknown], tmp_path / "manifest", part_items=10, kind="parquet")


def test_parquet_holds_the_same_items(tmp_path, parquet):
    import pyarrow.parquet as pq

    manifest = Manifest.open(tmp_path / "manifest")
    assert manifest == parquet
    assert [part.name for part in manifest.parts] == [f"part-00000{number}.parquet" for number in range(3)]
    found = [item for part in manifest.parts for item in manifest.read(part)]
    assert found == [*items(24), Item("talks/é.wav", "s3://b/é.wav")]
    assert pq.read_table(tmp_path / "manifest" / "part-000002.parquet").column_names == [*vars(found[0])]
    again = write_manifest(found, tmp_path / "again", part_items=10, kind="parquet")
    assert again.parts == manifest.parts


def test_a_part_of_parquet_that_is_edited_or_none(tmp_path, parquet):
    path = tmp_path / "manifest" / "part-000001.parquet"
    content = path.read_bytes()[:-20]
    path.write_bytes(content)
    with pytest.raises(DataError, match="is not what the index says"):
        parquet.read(parquet.parts[1])
    index = tmp_path / "manifest" / INDEX_NAME
    index.write_text(index.read_text().replace(parquet.parts[1].sha256, hashlib.sha256(content).hexdigest()))
    manifest = Manifest.open(tmp_path / "manifest")
    with pytest.raises(DataError, match="is no Parquet file that can be read"):
        manifest.read(manifest.parts[1])


def test_a_name_that_parquet_does_not_hold(tmp_path):
    pytest.importorskip("pyarrow")
    with pytest.raises(DataError, match="which Parquet does not hold: rename it, or use jsonl"):
        write_manifest([Item("a\udcff.wav", "file:///a%FF.wav")], tmp_path / "manifest", kind="parquet")
    assert list(tmp_path.iterdir()) == []


def test_kinds_that_are_none_or_not_installed(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="found the kind 'csv' of a manifest, expected jsonl or parquet"):
        write_manifest(items(1), tmp_path / "manifest", kind="csv")
    monkeypatch.setattr("sottovoce.extras.is_installed", lambda module: False)
    with pytest.raises(MissingExtraError, match=r"A manifest of Parquet files needs .*sottovoce\[stores\]"):
        write_manifest(items(1), tmp_path / "manifest", kind="parquet")
