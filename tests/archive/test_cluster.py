"""The archive on a Ray cluster: the same files and tables as with processes of this machine."""

import contextlib
import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from sottovoce.archive.cluster import _Actor
from sottovoce.archive.listing import make_manifest
from sottovoce.archive.results import versions
from sottovoce.archive.run import enhance_archive
from sottovoce.errors import ConfigError, DataError, MissingExtraError

EXAMPLES = Path(__file__).parents[2] / "examples"


def content_of(summary):
    rows = [
        {**json.loads(line), "work_seconds": None, "attempts": None}
        for path in sorted((Path(summary.place) / "results").iterdir())
        for line in path.read_text().splitlines()
    ]
    files = {
        path.relative_to(Path(summary.place)).as_posix(): path.read_bytes()
        for path in (Path(summary.place) / "audio").rglob("*")
        if path.is_file()
    }
    return rows, files


def actors():
    """Numbers of the processes that work for a cluster of this machine."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if path.read_bytes().startswith(b"ray::_Actor"):
                yield int(path.parent.name)


def test_without_ray_the_extra_is_named(tmp_path, recordings, identity, here, monkeypatch):
    monkeypatch.setattr("sottovoce.extras.is_installed", lambda module: False)
    manifest = make_manifest([recordings], tmp_path / "manifest")
    with pytest.raises(MissingExtraError, match=r"A Ray cluster needs the package 'ray', .*'sottovoce\[cluster\]'"):
        enhance_archive(manifest, tmp_path / "out", identity, address="local")


def test_an_actor_with_other_versions_does_nothing():
    actor = _Actor(None, {**versions(), "soxr": "0.0"})
    with pytest.raises(DataError, match=r"a machine of the cluster has soxr .*, this one 0\.0: install the same"):
        actor.call(print, ())


def test_an_actor_gives_the_result_and_what_was_done():
    def double(engine, number, *, advance):
        advance(1.5)
        advance(2.0)
        return engine * number

    assert _Actor(10, versions()).call(double, (2,)) == (20, 3.5)


def test_an_actor_that_is_to_end_leaves_nothing_behind(tmp_path):
    begun = threading.Event()

    def write(engine, path, *, advance):
        path.touch()
        try:
            for _ in range(1000):
                begun.set()
                with contextlib.suppress(Exception):  # as of a recording that fails
                    advance(0.5)
                time.sleep(0.01)
        finally:
            path.unlink()

    actor = _Actor(None, versions())
    found = []
    call = threading.Thread(target=lambda: found.append(actor.call(write, (tmp_path / "half",))))
    call.start()
    assert begun.wait(10)
    actor.end()
    assert not (tmp_path / "half").exists()
    call.join()
    assert found[0][0] is None
    assert found[0][1] < 500
    assert actor.call(write, (tmp_path / "late",)) == (None, 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes in /proc")
def test_two_workers_of_which_one_is_killed_make_what_the_pool_makes(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    import sottovoce

    # Batches of a recording or two, so that all actors have several.
    monkeypatch.setattr("sottovoce.archive.run.BATCH_SECONDS", 5.0)
    folders = [EXAMPLES / "pairs" / "noisy", EXAMPLES / "unpaired" / "held_out" / "noisy"]
    manifest = make_manifest(folders, tmp_path / "manifest", part_items=6)
    enhancer = sottovoce.load()
    expected = enhance_archive(manifest, tmp_path / "pool", enhancer, jobs=2)
    killed = []

    def kill_one():
        while not killed and not over.wait(0.01):
            if list((tmp_path / "ray").glob("*/audio/**/*.flac")):
                killed.extend(list(actors())[:1])
        for number in killed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)

    over = threading.Event()
    killer = threading.Thread(target=kill_one)
    killer.start()
    try:
        found = enhance_archive(manifest, tmp_path / "ray", enhancer, jobs=2, address="local")
    finally:
        over.set()
        killer.join()
    assert killed
    assert found.failed == 0
    assert content_of(found) == content_of(expected)
    deadline = time.monotonic() + 60
    while list(actors()):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_an_interrupted_run_leaves_no_temporary_file(tmp_path, save, identity):
    pytest.importorskip("ray")
    names = [str(save(tmp_path / "in" / f"{number}.wav", seconds=600, rate=48000)) for number in range(2)]
    manifest = make_manifest(names, tmp_path / "manifest", hashes=False)

    def temporaries():
        return [path for path in tmp_path.glob("out/*/audio/**/.*") if path.is_file()]

    def interrupt():
        deadline = time.monotonic() + 120
        while not temporaries() and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        enhance_archive(manifest, tmp_path / "out", identity, jobs=2, address="local")
    thread.join()
    assert temporaries() == []


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [ConnectionError, Exception])
def test_a_cluster_that_is_not_there(tmp_path, recordings, identity, here, monkeypatch, kind):
    ray = pytest.importorskip("ray")

    def init(**keywords):
        raise kind("Could not find any running Ray instance.\nMore words.")

    monkeypatch.setattr(ray, "init", init)
    manifest = make_manifest([recordings], tmp_path / "manifest")
    with pytest.raises(
        ConfigError, match=r"found no Ray cluster at auto \(Could not find any running Ray instance\.\):"
    ):
        enhance_archive(manifest, tmp_path / "out", identity, address="auto")
