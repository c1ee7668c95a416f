"""Copies on this machine: whole, gone afterwards, and room for them."""

import errno
import io
import tempfile
from pathlib import Path

import pytest

from sottovoce.archive import scratch


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_a_copy_is_whole_and_gone_afterwards(tmp_path, monkeypatch):
    monkeypatch.setattr(scratch, "_COPY_BYTES", 4)
    with scratch.scratch_copy(io.BytesIO(b"0123456789"), "a.wav", "s3://b/a.wav") as path:
        assert (path.name, path.read_bytes()) == ("a.wav", b"0123456789")
        assert path.is_relative_to(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_room_is_twice_the_size_and_more(tmp_path):
    free = scratch.shutil.disk_usage(tmp_path).free
    assert scratch.scratch_takes(1000)
    assert not scratch.scratch_takes(free)
    assert list(tmp_path.iterdir()) == []


def test_a_drive_that_refuses_even_to_delete_has_no_room(tmp_path, monkeypatch):
    def refuse(path, *arguments, **keywords):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    assert not scratch.folder_takes(tmp_path, 1)
