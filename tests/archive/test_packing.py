"""Parts that are packed: the enhanced recordings are those of a plain run, in one file that others read."""

import io
import json
import tarfile
from pathlib import Path

import pytest
import soundfile as sf

from sottovoce.archive import packing, run
from sottovoce.archive.listing import make_manifest
from sottovoce.archive.manifest import Item, Manifest, write_manifest
from sottovoce.archive.results import Run
from sottovoce.archive.run import enhance_archive
from sottovoce.archive.sources import Sources
from sottovoce.engine.workers import WorkerDiedError
from sottovoce.errors import AudioError, ConfigError, DataError, MissingExtraError, StorageError


@pytest.fixture
def manifest(tmp_path, save, here):
    for name in ("b.wav", "a.b/c.flac", "a.wav"):
        save(tmp_path / "in" / name)
    (tmp_path / "in" / "bad.wav").write_text("no sound")
    return make_manifest([tmp_path / "in"], tmp_path / "manifest", part_items=2)


@pytest.fixture(params=["webdataset", "parquet"])
def kind(request):
    if request.param == "parquet":
        pytest.importorskip("pyarrow")
    return request.param


def rows(summary):
    tables = sorted((Path(summary.place) / "results").iterdir())
    return {row["id"]: row for path in tables for row in map(json.loads, path.read_text().splitlines())}


def outputs(summary):
    """The enhanced recordings by the names of the recordings."""
    found = {}
    with Sources() as sources:
        for name, row in rows(summary).items():
            if row["output"] is not None:
                file, mark, place = row["output"].partition("#")
                uri = (Path(summary.place) / file).as_uri() + mark + place
                with sources.local_file(Item(name, uri)) as path:
                    found[name] = path.read_bytes()
    return found


def shards(summary):
    return {path.name: path.read_bytes() for path in (Path(summary.place) / "audio").iterdir()}


def test_a_packed_run_holds_what_a_plain_one_holds(tmp_path, manifest, identity, kind):
    plain = enhance_archive(manifest, tmp_path / "out", identity)
    packed = enhance_archive(manifest, tmp_path / "out", identity, packing=kind, jobs=2)
    assert packed.place != plain.place
    assert (packed.enhanced, packed.failed, packed.finished_parts) == (3, 1, 2)
    assert outputs(packed) == outputs(plain)
    assert len(outputs(packed)) == 3
    assert len(shards(packed)) == 2
    same = [{name: {**row, "output": 0, "work_seconds": 0} for name, row in rows(s).items()} for s in (plain, packed)]
    assert same[0] == same[1]
    assert list((Path(packed.place) / "staging").iterdir()) == []
    assert json.loads((Path(packed.place) / "run.json").read_text())["packing"] == kind


def test_equal_runs_make_equal_shards(tmp_path, manifest, identity):
    runs = [enhance_archive(manifest, tmp_path / name, identity, packing="webdataset") for name in ("1", "2")]
    assert shards(runs[0]) == shards(runs[1])


def test_samples_are_as_webdataset_wants_them(tmp_path, manifest, identity):
    summary = enhance_archive(manifest, tmp_path / "out", identity, packing="webdataset")
    names = []
    for path in sorted((Path(summary.place) / "audio").iterdir()):
        with tarfile.open(path) as tar:
            names += tar.getnames()
            about = json.load(tar.extractfile(tar.getnames()[1]))
    keys = [name.partition(".")[0] if "/" not in name else name.rpartition(".")[0] for name in names]
    assert keys[::2] == keys[1::2]
    assert [Path(name).suffix for name in names] == [".flac", ".json", ".wav", ".json", ".wav", ".json"]
    assert about["id"] == "b.wav"
    assert about["seconds"] == pytest.approx(0.1)
    assert set(about) >= {"uri", "input_db", "output_db", "clipped", "speech"}


@pytest.mark.filterwarnings("ignore")  # its own
def test_webdataset_reads_them(tmp_path, manifest, identity):
    wds = pytest.importorskip("webdataset")
    summary = enhance_archive(manifest, tmp_path / "out", identity, packing="webdataset")
    paths = sorted(str(path) for path in (Path(summary.place) / "audio").iterdir())
    samples = list(wds.WebDataset(paths, shardshuffle=False))
    assert [json.loads(sample["json"])["id"] for sample in samples] == ["a.b/c.flac", "a.wav", "b.wav"]
    assert len(sf.read(io.BytesIO(samples[1]["wav"]))[0]) == 1600


def test_parquet_is_as_hugging_face_has_it(tmp_path, manifest, identity, monkeypatch):
    pq = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(packing, "_GROUP_ROWS", 1)
    summary = enhance_archive(manifest, tmp_path / "out", identity, packing="parquet")
    path = min((Path(summary.place) / "audio").iterdir())
    table = pq.read_table(path)
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["audio"] == {"_type": "Audio"}
    assert set(features) == set(table.column_names)
    assert pq.ParquetFile(path).num_row_groups == 2
    first = table.to_pylist()[0]
    assert first["id"] == "a.b/c.flac"
    assert first["audio"]["path"].startswith("a.b/c-")
    assert sf.read(io.BytesIO(first["audio"]["bytes"]))[1] == 16000
    # What was packed is an archive again.
    again = make_manifest([Path(summary.place) / "audio"], tmp_path / "again", kind="parquet")
    assert again.items == 3
    assert again.seconds == pytest.approx(0.3)


def test_a_run_that_is_killed_before_or_after_a_table_goes_on(tmp_path, manifest, identity, kind, monkeypatch):
    calm = enhance_archive(manifest, tmp_path / "calm", identity, packing=kind)

    def killed(*arguments):
        raise KeyboardInterrupt

    for function in ("_packed", "outputs_outside"):
        with monkeypatch.context() as patch:
            patch.setattr(run, function, killed)
            with pytest.raises(KeyboardInterrupt):
                enhance_archive(manifest, tmp_path / "out", identity, packing=kind)
    summary = enhance_archive(manifest, tmp_path / "out", identity, packing=kind)
    assert summary.kept_parts == 1
    assert outputs(summary) == outputs(calm)
    assert set(shards(summary)) == set(shards(calm))
    assert list((Path(summary.place) / "staging").iterdir()) == []


def test_what_failed_is_added_when_it_is_tried_again(tmp_path, manifest, save, identity, kind):
    items = [item for part in manifest.parts for item in manifest.read(part)]
    plain = [Item(item.id, item.uri) for item in items]
    manifest = write_manifest(plain, tmp_path / "without", part_items=10)
    first = enhance_archive(manifest, tmp_path / "out", identity, packing=kind)
    assert (first.enhanced, first.failed) == (3, 1)
    before = outputs(first)
    (tmp_path / "in" / "a.wav").unlink()
    save(tmp_path / "in" / "bad.wav")
    second = enhance_archive(manifest, tmp_path / "out", identity, packing=kind, retry_failed=True)
    assert (second.enhanced, second.failed) == (4, 0)
    after = outputs(second)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"bad.wav"}
    assert len(shards(second)) == 1


def test_few_parts_are_in_memory_while_parts_are_packed(tmp_path, save, identity, here, monkeypatch):
    uri = save(tmp_path / "a.wav").as_uri()
    manifest = write_manifest((Item(f"{number}", uri) for number in range(24)), tmp_path / "manifest", part_items=1)
    open_parts, most = 0, 0
    read, write = Manifest.read, Run.write

    def counted_read(*arguments):
        nonlocal open_parts, most
        open_parts += 1
        most = max(most, open_parts)
        return read(*arguments)

    def counted_write(*arguments):
        nonlocal open_parts
        open_parts -= 1
        write(*arguments)

    monkeypatch.setattr(Manifest, "read", counted_read)
    monkeypatch.setattr(Run, "write", counted_write)
    summary = enhance_archive(manifest, tmp_path / "out", identity, packing="webdataset")
    assert (summary.finished_parts, most) == (24, 3)  # two for the one process, and the next one


def test_a_part_of_which_nothing_is_enhanced_has_a_table_and_no_shard(tmp_path, here, identity):
    (tmp_path / "bad.wav").write_text("no sound")
    manifest = make_manifest([tmp_path / "bad.wav"], tmp_path / "manifest")
    summary = enhance_archive(manifest, tmp_path / "out", identity, packing="webdataset")
    assert (summary.failed, summary.finished_parts, shards(summary)) == (1, 1, {})


def test_a_recording_that_no_cell_holds_is_a_row(tmp_path, manifest, identity, monkeypatch):
    pytest.importorskip("pyarrow")
    monkeypatch.setattr(packing._ParquetShard, "max_bytes", 4000)
    found = rows(enhance_archive(manifest, tmp_path / "out", identity, packing="parquet"))
    assert [row["status"] for row in found.values()] == ["enhanced", "failed", "failed", "failed"]
    assert "bytes of enhanced sound, expected at most 4000" in found["a.wav"]["message"]


def test_what_packs_dies(tmp_path, manifest, identity, monkeypatch):
    from sottovoce.archive.pool import ThisProcess

    class Dying(ThisProcess):
        def call(self, function, *arguments, advance):
            if function is packing.pack_rows:
                raise WorkerDiedError("signal 9, Killed")
            return super().call(function, *arguments, advance=advance)

    monkeypatch.setattr(run, "Workers", Dying)
    with pytest.raises(DataError, match=r"the process that packs part-00000\d-.* crashed 3 times \(signal 9, Killed\)"):
        enhance_archive(manifest, tmp_path / "out", identity, packing="webdataset")
    monkeypatch.setattr(run, "Workers", ThisProcess)
    assert enhance_archive(manifest, tmp_path / "out", identity, packing="webdataset").enhanced == 3


def test_an_enhanced_recording_that_vanishes_before_it_is_packed(tmp_path, manifest, identity, monkeypatch):
    def pack(engine, rows, task_run, stem, *, advance):
        next((Path(task_run.store.address()) / "staging").rglob("a-*.wav")).unlink()
        return packing.pack_rows(engine, rows, task_run, stem, advance=advance)

    with monkeypatch.context() as patch:
        patch.setattr(run, "pack_rows", pack)
        with pytest.raises(AudioError, match=r"found nothing at file:.*/staging/.*a-.*, expected the enhanced version"):
            enhance_archive(manifest, tmp_path / "out", identity, packing="webdataset")
    assert enhance_archive(manifest, tmp_path / "out", identity, packing="webdataset").enhanced == 3


def test_a_disk_that_does_not_take_the_shard(tmp_path, manifest, identity, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(packing._TarShard, "add", full)
    with pytest.raises(StorageError, match=r"cannot write .*\.tar \(No space left on device\)"):
        enhance_archive(manifest, tmp_path / "out", identity, packing="webdataset")
    (folder,) = (tmp_path / "out").iterdir()
    assert list((folder / "results").iterdir()) == list((folder / "audio").iterdir()) == []


def test_a_packing_that_is_none(tmp_path, manifest, identity, monkeypatch):
    with pytest.raises(ConfigError, match="found the packing 'zip', expected one of webdataset, parquet"):
        enhance_archive(manifest, tmp_path / "out", identity, packing="zip")
    monkeypatch.setattr("sottovoce.extras.is_installed", lambda module: False)
    with pytest.raises(MissingExtraError, match=r"sottovoce\[stores\]"):
        enhance_archive(manifest, tmp_path / "out", identity, packing="parquet")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_shards_in_a_store(manifest, bucket, identity, kind):
    s3fs = pytest.importorskip("s3fs")
    summary = enhance_archive(manifest, f"{bucket}/out", identity, packing=kind)
    assert summary.enhanced == 3
    names = s3fs.S3FileSystem().find(summary.place)
    assert len([name for name in names if "/audio/" in name]) == 2
    assert [name for name in names if "/staging/" in name] == []
    again = make_manifest([f"{summary.place}/audio"], f"{bucket}/again")
    assert (again.items, round(again.seconds, 3)) == (3, 0.3)
    assert enhance_archive(manifest, f"{bucket}/out", identity, packing=kind).kept_parts == 2
