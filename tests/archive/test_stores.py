"""Folders and stores: files are whole or absent, what is there stays, and what fails now and then is tried again."""

import contextlib
import errno
import io
import json
import pickle
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import pytest
import soundfile as sf

from sottovoce.archive import scratch, stores
from sottovoce.archive.listing import make_manifest
from sottovoce.archive.manifest import Item, Manifest, write_manifest
from sottovoce.archive.run import enhance_archive
from sottovoce.archive.stores import Entry, Folder, FsspecStore, open_store
from sottovoce.errors import AudioError, ConfigError, DataError, MissingExtraError, StorageError
from sottovoce.signal.audio import read

pytest.importorskip("fsspec")


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(stores, "_PAUSE_SECONDS", 0)


@pytest.fixture
def memory():
    """A store in the memory of this process."""
    from fsspec.implementations.memory import MemoryFileSystem

    yield FsspecStore("memory://box/in")
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


def rows(place):
    store = open_store(place)
    tables = [store.read(f"results/{name}") for name in sorted(store.names("results"))]
    return [json.loads(line) for table in tables for line in table.splitlines()]


def contents(place):
    """The files of a place by name."""
    store = open_store(place)
    if isinstance(store, Folder):
        return {p.relative_to(store.path).as_posix(): p.read_bytes() for p in store.path.rglob("*") if p.is_file()}
    return {entry.name: store.read(entry.name) for entry in store.walk()}


@pytest.fixture(params=["folder", "memory", "local", "s3"])
def store(request, tmp_path):
    """An empty place: a folder, a store of objects, a store with folders, and one of objects over a network."""
    if request.param == "folder":
        yield Folder(tmp_path / "place")
    elif request.param == "memory":
        yield FsspecStore(f"{request.getfixturevalue('memory').url}/place")
    elif request.param == "local":
        yield open_store(f"local://{tmp_path}/place")
    else:
        yield open_store(f"{request.getfixturevalue('bucket')}/place")


def test_small_files(store):
    store.prepare("a", "b")
    assert (store.size("a/x"), store.names("a"), store.names("missing")) == (None, set(), set())
    with pytest.raises(FileNotFoundError):
        store.read("a/x")
    store.write("a/x", b"one", overwrite=False)
    with pytest.raises(DataError, match="is kept"):
        store.write("a/x", b"two", overwrite=False)
    assert store.read("a/x") == b"one"
    store.write("a/x", b"three")
    store.within("a").write(".hidden", b"")
    assert (store.read("a/x"), store.size("a/x"), store.names("a")) == (b"three", 5, {"x"})
    store.delete(["a/x", "a/missing"])
    assert store.size("a/x") is None
    assert store.takes(100)
    assert set(contents_of(store)) == {"a/.hidden"} if isinstance(store, Folder) else store.names("a") == set()
    assert pickle.loads(pickle.dumps(store)) == store


def contents_of(store):
    return contents(store.path if isinstance(store, Folder) else store.url)


def test_a_large_file_appears_when_it_is_whole_and_the_first_one_stays(store, save, tmp_path):
    store.prepare("a")
    if isinstance(store, Folder):
        pytest.skip("what writes sound files does it there: see test_atomic")
    with contextlib.suppress(RuntimeError), store.target("a/x.wav") as path:
        path.write_bytes(b"half")
        raise RuntimeError
    assert store.size("a/x.wav") is None
    for content in (b"first", b"second"):
        with store.target("a/x.wav") as path:
            path.write_bytes(content)
    assert store.read("a/x.wav") == b"first"
    assert store.names("a") == {"x.wav"}
    assert not path.exists()
    with pytest.raises(AudioError, match=rf"{store.address('a/y.wav')} is cut"), store.target("a/y.wav") as path:
        raise AudioError(f"{path} is cut")


def test_files_are_found_in_order(memory):
    for name in ("b", "a/2", "a/1", "a/.hidden", "c/d/e"):
        memory.write(name, name.encode())
    assert list(memory.walk()) == [Entry("a/1", 3), Entry("a/2", 3), Entry("b", 1), Entry("c/d/e", 5)]


@pytest.mark.parametrize("scheme", ["memory", "local", pytest.param("s3", marks=pytest.mark.slow)])
def test_an_archive_in_a_store(scheme, request, tmp_path, recordings, identity, here):
    """Listed, enhanced and resumed there, it holds what it holds in a folder."""
    if scheme == "memory":
        place = request.getfixturevalue("memory").url
    elif scheme == "s3":
        place = request.getfixturevalue("bucket")
    else:
        place = f"local://{tmp_path}/store"
    source = open_store(f"{place}/in #1")
    for path in recordings.rglob("*.*"):
        name = path.relative_to(recordings).as_posix()
        source.prepare(str(Path(name).parent))
        source.write(name, path.read_bytes())
    make_manifest([f"{place}/in #1"], f"{place}/manifest", part_items=2)
    manifest = Manifest.open(f"{place}/manifest")
    items = [item for part in manifest.parts for item in manifest.read(part)]
    local = make_manifest([recordings], tmp_path / "manifest", part_items=2)
    expected = [item for part in local.parts for item in local.read(part)]
    assert [(i.id, i.bytes, i.seconds, i.hash) for i in items] == [(i.id, i.bytes, i.seconds, i.hash) for i in expected]

    summary = enhance_archive(manifest, f"{place}/out", identity, jobs=2)
    assert (summary.enhanced, summary.failed, summary.finished_parts) == (4, 0, 2)
    assert summary.place.startswith(f"{place}/out/identity-")
    files = contents(summary.place)
    found = rows(summary.place)
    assert [row["id"] for row in found] == ["a/b/d.wav", "a/c.flac", "a.wav", "b.wav"]
    plain = enhance_archive(local, tmp_path / "plain", identity)
    for row, other in zip(found, rows(plain.place), strict=True):
        assert files[row["output"]] == (Path(plain.place) / other["output"]).read_bytes()
        assert {**row, "uri": 0, "output": 0, "work_seconds": 0} == {**other, "uri": 0, "output": 0, "work_seconds": 0}
    assert len(files) == 4 + 2 + 1

    again = enhance_archive(manifest, f"{place}/out", identity)
    assert (again.finished_parts, again.kept_parts) == (0, 2)
    store = open_store(summary.place)
    store.delete([f"results/{min(store.names('results'))}", found[0]["output"]])
    again = enhance_archive(manifest, f"{place}/out", identity)
    assert (again.enhanced, again.finished_parts, again.kept_parts) == (2, 1, 1)
    after = contents(summary.place)
    assert {n: c for n, c in after.items() if n.startswith("audio")} == {
        n: c for n, c in files.items() if n.startswith("audio")
    }


@pytest.mark.slow
def test_processes_that_are_killed_go_on_in_a_store(bucket, tmp_path, save, identity_model):
    """The command with a store at both ends, killed in the middle, makes what a calm run in a folder makes."""

    def sottovoce(*words):
        return subprocess.Popen([sys.executable, "-m", "sottovoce", "archive", *words], stdout=subprocess.DEVNULL)

    for number in range(12):
        save(tmp_path / "in" / f"{number:02}.wav", seconds=20, peak=0.01 * (number + 1))
        FsspecStore(f"{bucket}/in").write(f"{number:02}.wav", (tmp_path / "in" / f"{number:02}.wav").read_bytes())
    enhance = ("--jobs", "2", "--model", str(identity_model))
    for source, place in ((str(tmp_path / "in"), str(tmp_path / "calm")), (f"{bucket}/in", bucket)):
        assert sottovoce("make", source, "-o", f"{place}/manifest", "--part-items", "4").wait(300) == 0
    assert sottovoce("enhance", f"{tmp_path}/calm/manifest", "-o", f"{tmp_path}/calm/out", *enhance).wait(300) == 0
    process = sottovoce("enhance", f"{bucket}/manifest", "-o", f"{bucket}/out", *enhance)
    deadline = time.monotonic() + 300
    while len([name for name in contents(f"{bucket}/out") if "/audio/" in name]) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.kill()
    process.wait()
    assert sottovoce("enhance", f"{bucket}/manifest", "-o", f"{bucket}/out", *enhance).wait(300) == 0
    (calm,) = (tmp_path / "calm" / "out").iterdir()
    (name,) = open_store(bucket).names("out")
    found, expected = ({row["id"]: row for row in rows(place)} for place in (f"{bucket}/out/{name}", str(calm)))
    assert len(found) == 12
    for key, row in found.items():
        content = FsspecStore(f"{bucket}/out/{name}").read(row["output"])
        assert content == (calm / expected[key]["output"]).read_bytes()


@pytest.mark.slow
def test_a_server_that_refuses_every_third_request(bucket, recordings, tmp_path, identity, here, monkeypatch):
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication

    answer = DomainDispatcherApplication.__call__
    counts = {"all": 0, "refused": 0}
    lock = threading.Lock()

    def answer_or_refuse(app, environ, start_response):
        with lock:
            counts["all"] += 1
            is_refused = counts["all"] % 3 == 0
            counts["refused"] += is_refused
        if not is_refused:
            return answer(app, environ, start_response)
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start_response("503 Slow Down", [("Content-Length", "0")])
        return [b""]

    monkeypatch.setattr(DomainDispatcherApplication, "__call__", answer_or_refuse)
    source = FsspecStore(f"{bucket}/in")
    for path in recordings.glob("*.wav"):
        source.write(path.name, path.read_bytes())
    manifest = make_manifest([source.url], f"{bucket}/manifest")
    summary = enhance_archive(manifest, f"{bucket}/out", identity)
    assert (summary.enhanced, summary.failed) == (2, 0)
    assert counts["refused"] > 5
    assert {row["attempts"] for row in rows(summary.place)} == {1}


class Flaky:
    """A store of which calls fail now and then."""

    def __init__(self, files, pattern):
        self._files, self._pattern = files, pattern
        self.calls = self.failures = 0
        self._lock = threading.Lock()

    def __getattr__(self, name):
        value = getattr(self._files, name)
        if not callable(value) or name.startswith("_"):
            return value

        def call(*arguments, **keywords):
            with self._lock:
                self.calls += 1
                fails = self._pattern(self.calls)
                self.failures += fails
            if fails:
                raise RuntimeError("503 Slow Down\nmore")
            return value(*arguments, **keywords)

        return call


@pytest.fixture
def flaky(monkeypatch, memory):
    real = stores._filesystem(memory.url)

    def flaky(pattern):
        files = Flaky(real, pattern)
        monkeypatch.setattr(stores, "_filesystem", lambda url: files)
        return files

    return flaky


def test_a_store_that_fails_now_and_then(memory, flaky, recordings, identity, here):
    for path in recordings.glob("*.wav"):
        memory.write(path.name, path.read_bytes())
    files = flaky(lambda call: call % 3 != 0)
    manifest = make_manifest([memory.url], "memory://box/manifest")
    summary = enhance_archive(manifest, "memory://box/out", identity)
    assert (summary.enhanced, summary.failed) == (2, 0)
    assert files.failures > 20
    assert {row["attempts"] for row in rows(summary.place)} == {1}


def test_reads_that_fail_now_and_then(memory, save, tmp_path, identity, here, monkeypatch, caplog):
    from fsspec.implementations.memory import MemoryFile

    memory.write("a.wav", save(tmp_path / "a.wav").read_bytes())
    with tarfile.open(tmp_path / "b.tar", "w") as tar:
        for name in ("1.wav", "2.wav"):
            tar.add(tmp_path / "a.wav", name)
    memory.write("b.tar", (tmp_path / "b.tar").read_bytes())
    reads, answered = 0, 3

    def read(file, *arguments):
        nonlocal reads
        reads += 1
        if reads % answered != 0:
            raise RuntimeError("connection reset\nmore")
        return io.BytesIO.read(file, *arguments)

    monkeypatch.setattr(MemoryFile, "read", read)
    manifest = make_manifest([memory.url], tmp_path / "manifest")
    assert [item.seconds for item in manifest.read(manifest.parts[0])] == [0.1] * 3
    assert caplog.records == []
    summary = enhance_archive(manifest, tmp_path / "out", identity)
    assert (summary.enhanced, {row["attempts"] for row in rows(summary.place)}) == (3, {1})

    answered = 10**6
    manifest = make_manifest([memory.url], tmp_path / "gone")
    assert [item.seconds for item in manifest.read(manifest.parts[0])] == [None, None]
    assert "(connection reset)" in caplog.records[0].getMessage()
    (first, *_) = rows(enhance_archive(manifest, tmp_path / "out 2", identity, pause_seconds=0).place)
    assert first["message"].startswith("cannot read memory://box/in/a.wav (connection reset): ")


def test_a_store_that_is_gone_ends_the_run_and_no_recording_is_blamed(memory, flaky, recordings, identity, here):
    manifest = make_manifest([recordings], "memory://box/manifest")
    enhance_archive(manifest, "memory://box/out", identity, shard=(2, 2))
    flaky(lambda call: call > 10)
    with pytest.raises(StorageError, match=r"cannot (read|write) memory://box/out/.* \(503 Slow Down\): "):
        enhance_archive(manifest, "memory://box/out", identity, pause_seconds=0)
    flaky(lambda call: False)
    assert enhance_archive(manifest, "memory://box/out", identity).enhanced == 4


def test_a_recording_that_cannot_be_fetched_is_tried_again_and_is_a_row(memory, save, tmp_path, identity, monkeypatch):
    memory.write("a.wav", save(tmp_path / "a.wav").read_bytes())
    memory.write("cut.wav", save(tmp_path / "a.wav").read_bytes()[:1000])
    items = [Item(name, memory.uri(name)) for name in ("a.wav", "cut.wav", "missing.wav")]
    manifest = write_manifest(items, tmp_path / "manifest")
    tried = []

    def failing(file, name, uri):
        tried.append(uri)
        if tried.count(uri) < 3 and uri.endswith("a.wav"):
            raise TimeoutError("the store does not answer")
        return scratch_copy(file, name, uri)

    scratch_copy = scratch.scratch_copy
    monkeypatch.setattr("sottovoce.archive.sources.scratch_copy", failing)
    found = {r["id"]: r for r in rows(enhance_archive(manifest, "memory://box/out", identity, pause_seconds=0).place)}
    assert (found["a.wav"]["status"], found["a.wav"]["attempts"]) == ("enhanced", 3)
    assert found["missing.wav"]["message"] == (
        "found nothing at memory://box/in/missing.wav, expected a recording: list the recordings again"
    )
    assert found["cut.wav"]["message"].startswith("memory://box/in/cut.wav ")
    assert found["cut.wav"]["attempts"] == 1


def test_a_machine_without_disk_ends_the_run_and_no_recording_is_blamed(memory, save, tmp_path, identity, monkeypatch):
    memory.write("a.wav", save(tmp_path / "a.wav").read_bytes())
    manifest = write_manifest([Item("a.wav", memory.uri("a.wav"))], tmp_path / "manifest")
    full = tmp_path / "full"
    monkeypatch.setattr(scratch.tempfile, "tempdir", str(full))

    def refuse(path, *arguments, **keywords):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refuse)
        with pytest.raises(StorageError, match=r"machine .* has no room for a copy of memory://box/in/a.wav \(No"):
            enhance_archive(manifest, "memory://box/out", identity, pause_seconds=0)
    assert all("/results/" not in name for name in contents("memory://box/out"))
    full.mkdir()
    assert enhance_archive(manifest, "memory://box/out", identity).enhanced == 1
    assert list(full.iterdir()) == []


def test_a_copy_that_a_killed_process_left_is_deleted(memory, tmp_path, monkeypatch):
    monkeypatch.setattr(scratch.tempfile, "tempdir", str(tmp_path))
    with scratch.scratch_folder("memory://x") as folder:
        name = folder.name
    process = f"-{2**22 + 1}-"
    left = tmp_path / (name[:19] + process + name.split("-")[-1])
    left.mkdir()
    memory.clear_leftovers("")
    assert not left.exists()


@pytest.mark.parametrize(
    ("place", "error", "words"),
    [
        ("nosuch://a/b", ConfigError, "found the address nosuch://a"),
        ("zip://a::memory://b", ConfigError, "an address in another one"),
    ],
)
def test_addresses_that_are_none(place, error, words):
    with pytest.raises(error, match=words):
        open_store(place)


def test_an_address_of_a_file_is_a_folder():
    assert open_store("file:///data/a%20b") == Folder(Path("/data/a b"))
    assert not stores.is_address("C:/data")


@pytest.mark.parametrize(
    ("place", "url"),
    [("MEMORY://Box/in//", "memory://Box/in"), ("memory://", "memory://"), ("memory:///a/", "memory:///a")],
)
def test_an_address_is_written_in_one_way(place, url, memory):
    store = open_store(place)
    assert store == FsspecStore(url)
    store.write("x", b"one")
    with stores.open_uri(store.uri("x").replace("memory", "MEMORY")) as file:
        assert file.read() == b"one"


def test_without_fsspec_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("sottovoce.extras.is_installed", lambda module: False)
    stores._filesystem_at.cache_clear()
    with pytest.raises(MissingExtraError, match=r"needs the package 'fsspec', .*'sottovoce\[stores\]'"):
        open_store("memory://a")


def test_without_the_package_of_a_store_it_is_named(monkeypatch):
    def url_to_fs(url, **options):
        raise ImportError("Please install gcsfs")

    monkeypatch.setattr("fsspec.core.url_to_fs", url_to_fs)
    stores._filesystem_at.cache_clear()
    with pytest.raises(MissingExtraError, match=r"gs://a needs a package .* \(Please install gcsfs\): `pip install"):
        open_store("gs://a/b")


def test_places_with_nothing_in_them(memory, tmp_path):
    with pytest.raises(AudioError, match="found no recording at memory://box/in, expected"):
        make_manifest([memory.url], tmp_path / "manifest")
    with pytest.raises(DataError, match=r"found no index\.json in memory://box/in"):
        Manifest.open(memory.url)
    memory.write("index.json", b"{")
    with pytest.raises(DataError, match="is cut or was altered"):
        Manifest.open(memory.url)
    with pytest.raises(DataError, match="which is kept"):
        make_manifest([tmp_path], memory.url)


def test_one_recording_by_its_address_and_no_copy_without_hashes(memory, save, tmp_path, monkeypatch, here):
    memory.write("a.wav", save(tmp_path / "a.wav").read_bytes())
    monkeypatch.setattr("sottovoce.archive.sources.scratch_copy", None)
    manifest = make_manifest([f"{memory.url}/a.wav"], tmp_path / "manifest", hashes=False)
    (item,) = manifest.read(manifest.parts[0])
    assert item == Item("a.wav", "memory://box/in/a.wav", (tmp_path / "a.wav").stat().st_size)


def test_paths_and_addresses_are_listed_in_their_order_and_once(memory, save, tmp_path, here, caplog):
    for name in ("a.wav", "sub/b.wav"):
        memory.write(name, save(tmp_path / "store" / name).read_bytes())
    inputs = [
        f"{memory.url}/sub",
        save(tmp_path / "z.wav"),
        memory.url,
        save(tmp_path / "y.wav").as_uri(),
        f"{memory.url}/",
        tmp_path / "y.wav",
    ]
    manifest = make_manifest(inputs, tmp_path / "manifest")
    assert [item.id for item in manifest.read(manifest.parts[0])] == ["z.wav", "a.wav", "sub/b.wav", "y.wav"]
    assert [record.args for record in caplog.records] == [
        (f"{memory.url}/sub", memory.url),
        (f"{memory.url}/", memory.url),
        (tmp_path / "y.wav", tmp_path / "y.wav"),
    ]


def test_a_recording_that_has_changed_in_a_store(memory, save, tmp_path, identity, here):
    memory.write("a.wav", save(tmp_path / "a.wav").read_bytes())
    manifest = make_manifest([memory.url], tmp_path / "manifest")
    memory.write("a.wav", save(tmp_path / "a.wav", peak=0.2).read_bytes())
    summary = enhance_archive(manifest, "memory://box/out", identity)
    (row,) = rows(summary.place)
    assert (row["error"], row["message"].partition(" has ")[0]) == ("Changed", "memory://box/in/a.wav")


def test_work_on_a_store_of_this_process_is_done_in_it(memory, save, tmp_path, identity, monkeypatch):
    monkeypatch.setattr("sottovoce.archive.run.Workers", None)
    manifest = write_manifest([Item("a.wav", save(tmp_path / "a.wav").as_uri())], tmp_path / "manifest")
    summary = enhance_archive(manifest, "memory://box/out", identity)
    (row,) = rows(summary.place)
    with open_store(summary.place).open(row["output"]) as file:
        assert sf.read(file)[0].size == read(tmp_path / "a.wav")[0].size
    with pytest.raises(ConfigError, match="memory://box/out is seen by this process alone"):
        enhance_archive(manifest, "memory://box/out", identity, address="local")
