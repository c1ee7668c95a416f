"""Recordings in tar shards and Parquet files: all that can be read is, whatever the rest of the file is."""

import io
import json
import logging
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from sottovoce.archive.listing import make_manifest
from sottovoce.archive.manifest import Item
from sottovoce.archive.run import enhance_archive
from sottovoce.archive.sources import Sources
from sottovoce.errors import AudioError, ChangedError, DataError, MissingExtraError
from sottovoce.signal.audio import read

LONG = "speaker with a long name/" + 110 * "a" + " é#&.wav"


@pytest.fixture(autouse=True)
def _here(here):
    pass


def sound(number, kind="WAV"):
    file = io.BytesIO()
    sf.write(file, 0.01 * (number + 1) * np.sin(np.arange(1600) / 5), 16000, format=kind)
    return file.getvalue()


def write_tar(path, members):
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def shard(tmp_path):
    """A shard of WebDataset's kind: sound, texts, folders, a link, and names of all sorts."""
    return write_tar(
        tmp_path / "in" / "000.tar",
        [
            ("a.wav", sound(0)),
            ("a.txt", b"words"),
            ("b.flac", sound(1, "FLAC")),
            ("b.json", b"{}"),
            (LONG, sound(2)),
            ("../../out/c.wav", sound(3)),
            (".d.wav", sound(4)),
        ],
    )


def listed(manifest):
    return [item for part in manifest.parts for item in manifest.read(part)]


def rows(summary):
    tables = sorted((Path(summary.place) / "results").iterdir())
    return {row["id"]: row for path in tables for row in map(json.loads, path.read_text().splitlines())}


def test_recordings_of_a_shard_are_listed_and_enhanced_where_they_are(tmp_path, shard, save, identity):
    save(tmp_path / "in" / "z.wav")
    manifest = make_manifest([tmp_path / "in"], tmp_path / "manifest")
    items = {item.id: item for item in listed(manifest)}
    assert list(items) == ["000.tar/a.wav", "000.tar/b.flac", f"000.tar/{LONG}", "000.tar/../../out/c.wav", "z.wav"]
    assert next((item.bytes, item.seconds) for item in items.values()) == (len(sound(0)), 0.1)
    summary = enhance_archive(manifest, tmp_path / "out", identity)
    assert (summary.enhanced, summary.failed) == (5, 0)
    for number, row in enumerate(list(rows(summary).values())[:4]):
        samples, rate = read(Path(summary.place) / row["output"])
        assert rate == 16000
        np.testing.assert_allclose(samples[0].max(), 0.01 * (number + 1), rtol=0.05)
    audio = Path(summary.place) / "audio"
    assert len([path for path in audio.rglob("*.*") if path.is_file()]) == 5
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out", "manifest"}


@pytest.mark.parametrize("removed", [1, 600, 1500, 2048, 5000])
def test_a_shard_that_is_cut(tmp_path, shard, save, identity, caplog, removed):
    save(tmp_path / "in" / "z.wav")
    whole = listed(make_manifest([tmp_path / "in"], tmp_path / "whole"))
    used = shard.read_bytes().rstrip(b"\0")
    end = len(used) + -len(used) % 512
    shard.write_bytes(shard.read_bytes()[: end - removed])
    caplog.clear()
    manifest = make_manifest([tmp_path / "in"], tmp_path / "manifest")
    items = listed(manifest)
    assert any("000.tar cannot be read from byte" in message for message in caplog.messages)
    kept = [item for item in items if item in whole]
    assert [item.id for item in kept][:2] == ["000.tar/a.wav", "000.tar/b.flac"]
    assert kept[-1].id == "z.wav"
    found = rows(enhance_archive(manifest, tmp_path / "out", identity))
    assert found["000.tar/?"]["status"] == "failed"
    assert found["000.tar/?"]["message"].startswith(f"{shard.as_uri()} could not be read to its end")
    assert {found[item.id]["status"] for item in kept} == {"enhanced"}


@pytest.mark.parametrize("content", [b"", b"no shard" * 1000, bytes(100)])
def test_what_is_no_shard(tmp_path, save, content, caplog):
    save(tmp_path / "in" / "a.wav")
    (tmp_path / "in" / "b.tar").write_bytes(content)
    assert [item.id for item in listed(make_manifest([tmp_path / "in"], tmp_path / "m"))] == ["a.wav", "b.tar/?"]
    assert "b.tar cannot be read from byte 0 on" in caplog.text


def test_an_empty_shard_alone(tmp_path):
    with pytest.raises(DataError, match="found no recording"):
        make_manifest([write_tar(tmp_path / "a.tar", [])], tmp_path / "manifest")


def test_equal_names_in_a_shard_are_said_and_all_enhanced(tmp_path, identity, caplog):
    shard = write_tar(tmp_path / "a.tar", [("a.wav", sound(0)), ("a.wav", sound(1)), ("b.wav", sound(2))])
    manifest = make_manifest([shard], tmp_path / "manifest")
    assert [item.id for item in listed(manifest)] == ["a.tar/a.wav", "a.tar/a.wav", "a.tar/b.wav"]
    assert any("has several members named 'a.wav' (1 such names)" in message for message in caplog.messages)
    summary = enhance_archive(manifest, tmp_path / "out", identity)
    assert summary.enhanced == 3
    assert len(list((Path(summary.place) / "audio" / "a.tar").iterdir())) == 3


def test_a_shard_that_was_written_again_gives_no_other_recording(tmp_path, identity):
    names = ["a.wav", "b.wav", "c.wav"]
    shard = write_tar(tmp_path / "a.tar", [(name, sound(number)) for number, name in enumerate(names)])
    manifest = make_manifest([shard], tmp_path / "manifest", hashes=False)
    write_tar(shard, [("b.wav", sound(1)), ("a.wav", sound(0)), ("c.wav", sound(5))])
    found = rows(enhance_archive(manifest, tmp_path / "out", identity))
    assert [row["error"] for row in found.values()] == ["Changed", "Changed", None]
    assert "found 'b.wav' at byte 0 of" in found["a.tar/a.wav"]["message"]


@pytest.mark.parametrize("fragment", ["offset=x", "row=1", "nothing", "row=a&column=b"])
def test_places_in_shards_that_make_no_sense(tmp_path, shard, fragment):
    with Sources() as sources, pytest.raises(AudioError, match="expected #offset= or #row= and #column="):
        sources.local_file(Item("a", f"{shard.as_uri()}#{fragment}")).__enter__()


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.parquet").write_bytes(b"")
    monkeypatch.setattr("sottovoce.extras.is_installed", lambda module: False)
    with pytest.raises(MissingExtraError, match=r"A Parquet file needs the package 'pyarrow', .*'sottovoce\[stores\]'"):
        make_manifest([tmp_path / "a.parquet"], tmp_path / "manifest")


@pytest.fixture
def table(tmp_path):
    """A Parquet file as Hugging Face's datasets are, of seven rows in three groups."""
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    kinds = ["WAV", "FLAC", "WAV", "WAV", "WAV", "FLAC", "WAV"]
    cells = [
        {"bytes": sound(number, kind), "path": f"folder/{number}.{kind.lower()}"} for number, kind in enumerate(kinds)
    ]
    cells[3] = {"bytes": None, "path": "elsewhere.wav"}
    cells[4]["path"] = None
    columns = {"text": [str(number) for number in range(7)], "speech": cells}
    (tmp_path / "in").mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), tmp_path / "in" / "train.parquet", row_group_size=3)
    return tmp_path / "in" / "train.parquet"


def test_rows_of_a_parquet_file(tmp_path, table, identity):
    manifest = make_manifest([table.parent], tmp_path / "manifest")
    items = listed(manifest)
    assert [item.id for item in items][3:6] == [
        f"train.parquet/00000{rest}" for rest in ("3-elsewhere.wav", "4-sound.wav", "5-5.flac")
    ]
    assert [item.seconds for item in items] == [0.1] * 3 + [None] + [0.1] * 3
    found = rows(enhance_archive(manifest, tmp_path / "out", identity))
    statuses = [row["status"] for row in found.values()]
    assert statuses == ["enhanced"] * 3 + ["failed"] + ["enhanced"] * 3
    assert "row 3 of" in found["train.parquet/000003-elsewhere.wav"]["message"]
    with Sources() as sources:  # in any order
        for number in (6, 0, 5, 2, 1, 4, 4):
            with sources.local_file(items[number]) as path:
                peak = abs(sf.read(path)[0]).max()
            assert peak == pytest.approx(0.01 * (number + 1), rel=0.01)
        with pytest.raises(ChangedError, match="found 7 rows in"):
            sources.local_file(Item("a", items[0].uri.replace("row=0", "row=7"))).__enter__()
        with pytest.raises(ChangedError, match=r"found 'folder/1.flac' in row 1 of .*, expected '0.wav': it changed"):
            sources.local_file(Item("a", items[0].uri.replace("row=0", "row=1"))).__enter__()


@pytest.mark.parametrize("kind", ["cut", "no sound", "rotten"])
def test_parquet_files_that_cannot_be_read(tmp_path, table, save, identity, caplog, kind):
    save(tmp_path / "in" / "z.wav")
    content = table.read_bytes()
    if kind == "no sound":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"text": ["a"], "number": [1]}), table)
    elif kind == "cut":
        table.write_bytes(content[: len(content) // 2])
    else:
        place = content.index(sound(5, "FLAC")[:100])
        table.write_bytes(content[: place - 200] + bytes(200) + content[place:])
    caplog.set_level(logging.WARNING)
    manifest = make_manifest([table.parent], tmp_path / "manifest")
    found = rows(enhance_archive(manifest, tmp_path / "out", identity))
    assert found["z.wav"]["status"] == "enhanced"
    words = {"no sound": "has the columns text, number, expected one", "cut": "is cut or damaged", "rotten": ""}[kind]
    assert words in caplog.text
    failed = [row["message"] for row in found.values() if row["status"] == "failed"]
    assert failed
    assert all("train.parquet" in message for message in failed)


@pytest.mark.slow
def test_shards_in_a_store(tmp_path, shard, table, bucket, identity):
    """Of S3: members and rows are read where they are."""
    import s3fs

    for path in (shard, table):
        s3fs.S3FileSystem().put_file(str(path), f"archive/shards/{path.name}")
    here = make_manifest([shard.parent], tmp_path / "here")
    there = make_manifest([f"{bucket}/shards"], tmp_path / "there")
    assert [(i.id, i.bytes, i.seconds, i.hash) for i in listed(there)] == [
        (i.id, i.bytes, i.seconds, i.hash) for i in listed(here)
    ]
    summary = enhance_archive(there, f"{bucket}/out", identity)
    assert (summary.enhanced, summary.failed) == (10, 1)
