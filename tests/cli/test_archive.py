"""The command `archive`: its steps, what they print, and their exit codes."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile as sf

from sottovoce import cli
from sottovoce.archive.manifest import Item, write_manifest


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    def run(*words):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["sottovoce", "archive", *map(str, words)])
        code = cli.main()
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def recordings(tmp_path):
    (tmp_path / "in").mkdir()
    for name in "ab":
        sf.write(tmp_path / "in" / f"{name}.wav", 0.1 * np.sin(np.arange(1600) / 5), 16000)
    return tmp_path / "in"


def test_from_recordings_to_their_enhanced_versions(run, tmp_path, recordings, identity_model):
    code, out, err = run("make", "in", "-o", "manifest", "--no-hash", "--part-items", 1)
    assert (code, err) == (0, "")
    assert out == "Listed 2 recordings, 0:00.2 of sound, in 2 parts; see manifest.\n"
    enhance = ("enhance", "manifest", "-o", "out", "--model", identity_model, "--limit-db", 20, "--jobs", 1)
    code, out, err = run(*enhance, "--shard", "2/2")
    assert (code, err) == (0, "")
    assert out.startswith("Enhanced 1 of 1 recordings, 0:00.1 of sound in ")
    (recordings / "a.wav").write_text("no sound")
    code, out, err = run(*enhance)
    assert (code, err) == (1, "")
    assert "Enhanced 0 of 1 recordings" in out
    assert "1 failed. 1 parts finished, 1 kept from earlier, 0 not gone through. See out/identity-" in out.replace(
        "\\", "/"
    )
    (folder,) = (tmp_path / "out").iterdir()
    assert json.loads((folder / "run.json").read_text())["options"]["limit_db"] == 20
    rows = [json.loads(path.read_text()) for path in sorted((folder / "results").iterdir())]
    assert [(row["id"], row["status"], row["error"]) for row in rows] == [
        ("a.wav", "failed", "Changed"),
        ("b.wav", "enhanced", None),
    ]


@pytest.mark.parametrize("shard", ["3", "a/b", "/", "1/2/3", "-1/2", ""])
def test_a_shard_that_is_none(run, shard):
    code, out, err = run("enhance", "manifest", "-o", "out", f"--shard={shard}")
    assert (code, out) == (1, "")
    assert f"found the shard {shard!r}, expected the number of this run and of all, such as 3/16" in err


def test_a_folder_that_is_no_manifest(run, recordings):
    code, out, err = run("enhance", "in", "-o", "out")
    assert (code, out) == (1, "")
    assert err == "sottovoce: found no index.json in in, expected a manifest: `sottovoce archive make` writes one\n"


def test_a_manifest_that_is_there(run, recordings):
    code, out, err = run("make", "in", "-o", "in")
    assert (code, out, err) == (1, "", "sottovoce: found in, which is kept: name another output, or delete it\n")


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(tmp_path, identity_model):
    write_manifest([Item("a.wav", save_long(tmp_path / "a.wav").as_uri())], tmp_path / "manifest")
    command = ["archive", "enhance", "manifest", "-o", "out", "--jobs", "1", "--model", str(identity_model)]
    process = subprocess.Popen(
        [sys.executable, "-m", "sottovoce", *command],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    with process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("out/*/audio/.sottovoce-*")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        errors = process.stderr.read()
    assert process.returncode == 130
    assert "interrupted: what is finished is kept; the same command goes on from there" in errors
    assert "Traceback" not in errors
    assert [path.name for path in tmp_path.glob("out/*/*/*")] == []


def save_long(path):
    """Half an hour of silence, which takes seconds to enhance."""
    sf.write(path, np.zeros(1800 * 8000, np.int16), 8000, subtype="PCM_U8")
    return path
