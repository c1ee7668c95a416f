"""Recordings, and calls that need no process of their own."""

import numpy as np
import pytest
import soundfile as sf

from sottovoce.archive import listing, run
from sottovoce.archive.pool import ThisProcess


@pytest.fixture
def here(monkeypatch):
    """Look at recordings, and enhance them, in this process: starting another one takes its time."""
    monkeypatch.setattr(listing, "Workers", ThisProcess)
    monkeypatch.setattr(run, "Workers", ThisProcess)


@pytest.fixture
def save():
    def save(path, seconds=0.1, peak=0.1, rate=16000, subtype="FLOAT"):
        path.parent.mkdir(parents=True, exist_ok=True)
        tone = peak * np.sin(2 * np.pi * 440 / rate * np.arange(round(rate * seconds)))
        sf.write(path, tone, rate, subtype=subtype if path.suffix == ".wav" else None)
        return path

    return save


@pytest.fixture
def recordings(tmp_path, save):
    """Four recordings in three folders, and a note."""
    for name in ["b.wav", "a/c.flac", "a.wav", "a/b/d.wav"]:
        save(tmp_path / "in" / name)
    (tmp_path / "in" / "notes.txt").write_text("no sound")
    return tmp_path / "in"


@pytest.fixture(scope="session")
def s3_server():
    """An S3-compatible server on this machine, and its address; skipped where it is not installed."""
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_server, monkeypatch):
    """The address of an empty bucket."""
    import s3fs

    from sottovoce.archive import stores

    for name, value in {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    stores._filesystem_at.cache_clear()
    files = s3fs.S3FileSystem()
    files.mkdir("archive")
    yield "s3://archive"
    files.rm("archive", recursive=True)
    s3fs.S3FileSystem.clear_instance_cache()
    stores._filesystem_at.cache_clear()
