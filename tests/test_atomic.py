"""Files appear whole or not at all, replace nothing that is to be kept, and leave nothing behind."""

import os
import signal
import stat
import subprocess
import sys

import pytest

from sottovoce import atomic
from sottovoce.atomic import replacing, temporary_beside, temporary_folder
from sottovoce.errors import DataError

posix = pytest.mark.skipif(os.name != "posix", reason="permissions and process numbers of POSIX")


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def write(path, text="new", **options):
    with replacing(path, **options) as temporary:
        assert temporary.suffix == path.suffix
        temporary.write_text(text, encoding="utf-8")


@pytest.fixture(autouse=True)
def forget_cleared_folders():
    """A folder is cleared once in the life of a process."""
    atomic._clear_leftovers_once.cache_clear()


@pytest.fixture
def dead():
    """Number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_file_appears_whole(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with replacing(path) as temporary:
        temporary.write_text("half", encoding="utf-8")
        assert not path.exists()
    assert path.read_text(encoding="utf-8") == "half"
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old", encoding="utf-8")

    def fail():
        with replacing(path) as temporary:
            temporary.write_text("half", encoding="utf-8")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("has_links", [True, False])
def test_what_appears_meanwhile_is_kept(tmp_path, monkeypatch, has_links):
    path = tmp_path / "a.txt"
    if not has_links:

        def hardlink_to(self, target):
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(type(path), "hardlink_to", hardlink_to)
    write(path, "first", overwrite=False)
    assert path.read_text(encoding="utf-8") == "first"
    path.unlink()

    def write_second():
        with replacing(path, overwrite=False) as temporary:
            temporary.write_text("second", encoding="utf-8")
            path.write_text("theirs", encoding="utf-8")

    with pytest.raises(DataError, match=r"found .*a\.txt, which is kept"):
        write_second()
    assert path.read_text(encoding="utf-8") == "theirs"
    assert list(tmp_path.iterdir()) == [path]


@posix
@pytest.mark.parametrize("permissions", [0o600, 0o644, 0o640, 0o664])
def test_permissions_of_what_is_replaced_are_kept(tmp_path, permissions):
    path = tmp_path / "a.txt"
    path.write_text("old", encoding="utf-8")
    path.chmod(permissions)
    write(path)
    assert (path.read_text(encoding="utf-8"), mode(path)) == ("new", permissions)


@posix
@pytest.mark.parametrize(("mask", "permissions"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_new_files_follow_the_mask(tmp_path, mask, permissions):
    before = os.umask(mask)
    try:
        write(tmp_path / "a.txt", overwrite=False)
        write(tmp_path / "b.txt")
    finally:
        os.umask(before)
    assert (mode(tmp_path / "a.txt"), mode(tmp_path / "b.txt")) == (permissions, permissions)


def of_process(path, process):
    """The name that another process would have given to a temporary file."""
    return path.with_name(temporary_beside(path).name.replace(f"-{os.getpid()}-", f"-{process}-"))


@posix
def test_what_dead_processes_left_is_cleared(tmp_path, dead):
    living = os.getppid()
    left = [of_process(tmp_path / name, dead) for name in ("a.wav", "b.part", "c")]
    kept = [of_process(tmp_path / "a.wav", living), tmp_path / ".sottovoce", tmp_path / f".sottovoce-{dead}.wav"]
    kept.append(tmp_path / of_process(tmp_path / "a.wav", dead).name.replace(atomic._MACHINE, "0" * 8))
    for path in (*left[:2], *kept):
        path.touch()
    left[2].mkdir()
    (left[2] / "half.flac").touch()
    atomic._clear_leftovers_once.cache_clear()
    write(tmp_path / "out.txt")
    assert set(tmp_path.iterdir()) == {*kept, tmp_path / "out.txt"}


@posix
def test_what_a_killed_process_left_is_cleared(tmp_path):
    code = f"""
import os, signal
from pathlib import Path
from sottovoce.atomic import replacing
with replacing(Path({str(tmp_path / "a.txt")!r})) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".sottovoce-")
    write(tmp_path / "a.txt")
    assert list(tmp_path.iterdir()) == [tmp_path / "a.txt"]


@posix
def test_what_an_earlier_process_of_this_number_left_is_cleared(tmp_path):
    """In a container, a program has the same number again after a restart."""
    mine = temporary_beside(tmp_path / "a.wav")
    left = mine.with_name(mine.name.replace(f"-{atomic._RUN}", f"-{'0' * 8}"))
    for path in (mine, left):
        path.touch()
    atomic.clear_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [mine]


@posix
def test_a_link_to_a_folder_is_deleted_and_not_what_it_leads_to(tmp_path, dead):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "a.wav").touch()
    (tmp_path / "out").mkdir()
    of_process(tmp_path / "out" / "a", dead).symlink_to(tmp_path / "precious")
    atomic._clear_leftovers_once.cache_clear()
    write(tmp_path / "out" / "a.txt")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.txt"]
    assert (tmp_path / "precious" / "a.wav").exists()


def test_a_folder_to_work_in_vanishes_unless_it_is_renamed(tmp_path):
    with temporary_folder(tmp_path / "deep" / "out") as folder:
        (folder / "a.txt").touch()
    assert list((tmp_path / "deep").iterdir()) == []
    with temporary_folder(tmp_path / "out") as folder:
        (folder / "a.txt").touch()
        folder.rename(tmp_path / "out")
    assert (tmp_path / "out" / "a.txt").exists()


def test_long_names_have_room(tmp_path):
    path = tmp_path / ("n" * 251 + ".txt")
    write(path)
    assert list(tmp_path.iterdir()) == [path]
