import shutil
from dataclasses import dataclass

import numpy as np
import pytest

from sottovoce.data.corpora.folders import new_folder, read_or_clear, read_table, write_hashed, write_table
from sottovoce.errors import DataError
from sottovoce.signal.audio import read

RATE = 16000


@dataclass(frozen=True)
class Take:
    """A row of a table."""

    file: str
    seconds: float
    number: int
    sha256: str


def make(folder, count=2):
    """A folder of recordings and the rows of its table."""
    rng = np.random.default_rng(1)
    with new_folder(folder) as work:
        rows = []
        for number in range(count):
            sha256 = write_hashed(work / "takes" / f"{number}.flac", rng.uniform(-0.5, 0.5, RATE // 10), RATE)
            rows.append(Take(f"takes/{number}.flac", 0.1, number, sha256))
        write_table(work / "takes.csv", rows)
    return rows


def whole(folder):
    return read_or_clear(folder, "takes.csv", Take, lambda row: {row.file: row.sha256})


def test_the_table_is_read_as_it_was_written(tmp_path):
    rows = [Take("a, b.flac", 1 / 3, 7, ""), Take('"c".flac', -0.5, 0, "|")]
    write_table(tmp_path / "takes.csv", rows)
    assert read_table(tmp_path / "takes.csv", Take) == rows
    with pytest.raises(DataError, match="found no table of Take rows"):
        read_table(tmp_path / "nothing.csv", Take)
    (tmp_path / "foreign.csv").write_text("file,seconds\na.wav,long\n")
    with pytest.raises(DataError, match="make it again"):
        read_table(tmp_path / "foreign.csv", Take)


@dataclass
class Spoken:
    """A row with a column that had another name."""

    file: str
    speaker: str


def test_the_older_name_of_a_column_is_read(tmp_path):
    (tmp_path / "spoken.csv").write_text("file,talker\na.flac,anna\n")
    assert read_table(tmp_path / "spoken.csv", Spoken) == [Spoken("a.flac", "anna")]


def test_a_folder_appears_as_a_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "out"

    def fail():
        with new_folder(folder) as work:
            (work / "half.txt").write_text("half")
            assert not (folder / "half.txt").exists()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []
    make(folder)
    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (folder / "takes.csv").exists()


def test_equal_sound_has_equal_hashes(tmp_path):
    sound = np.linspace(-0.5, 0.5, 100)
    one, same = (write_hashed(tmp_path / f"{name}.flac", sound, RATE) for name in ("one", "same"))
    assert one == same != write_hashed(tmp_path / "other.flac", -sound, RATE)
    np.testing.assert_allclose(read(tmp_path / "one.flac")[0][0], sound, atol=2**-16)


def test_a_whole_folder_is_read(tmp_path):
    rows = make(tmp_path / "out")
    assert whole(tmp_path / "out") == rows
    assert whole(tmp_path / "missing") is None


@pytest.mark.parametrize("damage", ["cut", "gone", "stranger", "table"])
def test_what_is_not_whole_is_taken_away(tmp_path, damage):
    folder, neighbour = tmp_path / "out", tmp_path / "outer"
    make(folder)
    make(neighbour)
    victim = folder / "takes" / "0.flac"
    if damage == "cut":
        victim.write_bytes(victim.read_bytes()[:-10])
    elif damage == "gone":
        victim.unlink()
    elif damage == "stranger":
        shutil.copy(victim, folder / "takes" / "9.flac")
    else:
        (folder / "takes.csv").unlink()
    assert whole(folder) is None
    assert [path.name for path in tmp_path.iterdir()] == ["outer"]


def test_a_folder_that_appears_meanwhile_is_kept(tmp_path):
    def fail():
        with new_folder(tmp_path / "out") as work:
            (work / "mine.txt").touch()
            (tmp_path / "out").mkdir()
            (tmp_path / "out" / "theirs.txt").touch()

    with pytest.raises(DataError, match="cannot make the folder"):
        fail()
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == ["out", "out/theirs.txt"]


def test_files_of_an_earlier_run_are_replaced_and_no_others(tmp_path):
    folder = tmp_path / "out"

    def make_again(names, earlier):
        with new_folder(folder, earlier) as work:
            for name in names:
                (work / name).parent.mkdir(exist_ok=True)
                (work / name).write_text(f"new {name}", encoding="utf-8")

    make_again(["table", "a/0", "a/1"], ())
    (folder / "a" / "notes").write_text("mine", encoding="utf-8")
    (folder / "other").mkdir()
    make_again(["table", "a/1", "b/2"], {"table", "a/0", "a/1"})
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == {"table", "a/1", "b/2", "a/notes"}
    assert (folder / "other").is_dir()
    with pytest.raises(DataError, match=r"found .*notes, which no earlier run made"):
        make_again(["table", "a/notes"], {"table", "a/1", "b/2"})
    assert (folder / "a" / "notes").read_text(encoding="utf-8") == "mine"
    assert (folder / "a" / "1").exists()
    assert list(tmp_path.iterdir()) == [folder]
