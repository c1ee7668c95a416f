"""Names that cannot be used, links that lead nowhere, and what nobody may read or write: a sentence each, and the rest
goes on."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from sottovoce import cli

pytestmark = pytest.mark.skipif(os.name != "posix", reason="names and permissions of POSIX")

TOO_LONG = "n" * 300 + ".wav"


def save(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(16000) / 16000
    tone = 0.3 * np.sin(2 * np.pi * 200 * time) * np.sin(2 * np.pi * time) ** 2
    sf.write(path, tone, 16000)
    return path


@pytest.fixture
def folder(tmp_path):
    """A good recording in `in`, among others that cannot be used: by their last names, with words of the reason."""
    good = save(tmp_path / "in" / "good.wav")
    shutil.copy(good, os.fsencode(good.parent) + b"/caf\xe9.wav")
    (good.parent / "loop.wav").symlink_to("loop.wav")
    (good.parent / "gone.wav").symlink_to("nowhere.wav")
    os.mkfifo(good.parent / "pipe.wav")
    deep = good.parent.joinpath(*["d" * 200] * 5)
    deep.mkdir(parents=True)
    shutil.copy(good, deep / "long.wav")
    return good.parent


REASONS = {
    "caf\\udce9.wav": "not UTF-8: rename it",
    "long.wav": "expected at most 1020: move long.wav to a folder with a shorter path",
    "gone.wav": "found nothing at",
    "loop.wav": "Too many levels of symbolic links",
    "pipe.wav": "found a pipe or a device at",
}


@pytest.fixture
def sottovoce(monkeypatch, capsys, identity_model):
    def run(command, *arguments):
        model = ["--model", str(identity_model)] if command == "enhance" else []
        monkeypatch.setattr(sys, "argv", ["sottovoce", command, *map(str, arguments), *model])
        return cli.main(), *capsys.readouterr()

    return run


def reasons(err):
    """See that standard error has one line for each recording that cannot be used, and no other."""
    lines = err.encode("utf-8", "backslashreplace").decode().splitlines()
    assert len(lines) == len(REASONS), err
    for name, reason in REASONS.items():
        (line,) = (line for line in lines if name in line and "left out" not in line.partition(name)[2])
        assert reason in line
        assert line.startswith("sottovoce: ")


def test_enhance(folder, sottovoce):
    code, out, err = sottovoce("enhance", folder, "-o", folder.parent / "out")
    assert code == 1
    assert out.startswith("Enhanced 1 of 6 recordings")
    reasons(err)
    assert [path.name for path in (folder.parent / "out").rglob("*.wav")] == ["good.wav"]


def test_enhance_by_name(folder, sottovoce):
    inputs = [path for path in folder.rglob("*.wav") if path.name != "pipe.wav"]
    code, out, err = sottovoce("enhance", *inputs, folder / TOO_LONG, "-o", folder.parent / "out")
    assert code == 1
    assert out.startswith("Enhanced 1 of 6 recordings")
    assert "(File name too long): give it a shorter name" in err
    assert err.count("\n") == 5


@pytest.mark.parametrize("name", REASONS)
def test_info(folder, sottovoce, name):
    (path,) = (path for path in folder.rglob("*.wav") if repr(str(path)).endswith(f"{name}'"))
    code, out, err = sottovoce("info", path)
    assert (code, out) == (1, "")
    assert REASONS[name] in err
    assert err.count("\n") == 1


def test_plot(folder, sottovoce):
    code, _, err = sottovoce("plot", *sorted(folder.rglob("*.wav")), "-o", folder.parent / "picture.png")
    assert code == 1
    reasons(err)
    assert (folder.parent / "picture.png").exists()


def test_mix(folder, sottovoce):
    save(folder.parent / "noise" / "hum.wav")
    arguments = ("--speech", folder, "--noise", folder.parent / "noise", "--count", 2, "-o", folder.parent / "out")
    code, out, err = sottovoce("mix", *arguments)
    assert code == 1
    assert out.startswith("Mixed 2 files")
    reasons(err)
    assert sottovoce("mix", *arguments, "--overwrite", "--quiet") == (1, "", err)
    sound = folder.parent / "noise"
    assert sottovoce("mix", *arguments, "--overwrite", "--speech", sound, "--quiet") == (0, "", "")


def test_evaluate(folder, sottovoce):
    pytest.importorskip("pystoi")
    code, out, err = sottovoce(
        "evaluate", "--reference", folder, "--estimate", folder, "--measures", "si_sdr_db", "--jobs", 1
    )
    assert code == 1
    assert "1 file(s)" in " ".join(out.split())
    reasons(err)


WRITERS = {
    "enhance": "enhance {in}/good.wav -o {out}",
    "plot": "plot {in}/good.wav -o {out}.png",
    "evaluate": "evaluate --reference {in} --estimate {in} -o {out}",
    "mix": "mix --speech {in} --noise {in} --count 1 -o {out}",
    "train": "train --speech {in} --mixtures {in} -o {out}",
    "adapt": "adapt --mixtures {in} -o {out}",
    "benchmark": "benchmark --quick -o {out}",
    "fetch": "fetch librispeech-test-clean -o {out}",
}


@pytest.mark.parametrize("command", WRITERS)
@pytest.mark.parametrize("kind", ["below a file", "too long", "a loop"])
def test_what_cannot_be_written_is_refused_before_any_work(folder, sottovoce, command, kind):
    out = {
        "below a file": folder / "good.wav" / "out",
        "too long": folder / TOO_LONG,
        "a loop": folder / "loop.wav" / "x",
    }
    before = sorted(folder.rglob("*"))
    arguments = WRITERS[command].replace("{in}", str(folder)).replace("{out}", str(out[kind])).split()
    code, printed, err = sottovoce(*arguments)
    assert (code, err.count("\n")) == (1, 1)
    assert "cannot write" in err or "cannot make the output folder" in err
    assert printed == ""
    assert ("give it a shorter name" in err) == (kind == "too long")
    assert sorted(folder.rglob("*")) == before


@pytest.fixture
def unprivileged():
    """Run a command as a user who may not do everything; root gives up its capabilities by way of setpriv."""
    prefix = []
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root may read and write everything, and there is no setpriv to give that up")
        prefix = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"]
    python = [*prefix, sys.executable]
    found = subprocess.run([*python, "-c", "import sottovoce.cli"], check=False, capture_output=True, text=True)
    if found.returncode:
        pytest.skip(f"root cannot give up what it may do: {found.stderr.splitlines()[-1]}")

    def run(*arguments):
        command = [*python, "-m", "sottovoce", *map(str, arguments)]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, cwd="/")

    return run


def test_what_nobody_may_read(tmp_path, unprivileged):
    for name in ("a.wav", "unreadable/b.wav", "unenterable/c.wav", "secret.wav"):
        save(tmp_path / "in" / name)
    (tmp_path / "in" / "unreadable").chmod(0o311)
    (tmp_path / "in" / "unenterable").chmod(0o644)
    (tmp_path / "in" / "secret.wav").chmod(0o200)
    process = unprivileged("enhance", tmp_path / "in", "-o", tmp_path / "out")
    assert process.returncode == 1
    assert process.stdout.startswith("Enhanced 1 of 4 recordings")
    assert process.stderr.splitlines() == [
        f"sottovoce: cannot read {tmp_path}/in/{name} (Permission denied): check its name, and that you may read it"
        for name in ("secret.wav", "unenterable/c.wav", "unreadable")
    ]


def test_a_folder_that_nobody_may_enter_is_no_model(tmp_path, unprivileged):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.onnx").touch()
    (tmp_path / "run").chmod(0o644)
    process = unprivileged("info", tmp_path / "run")
    assert (process.returncode, process.stdout) == (1, "")
    reason = "(Permission denied): check that you may enter it"
    assert process.stderr == f"sottovoce: cannot read the folder {tmp_path / 'run'} {reason}\n"


def test_what_nobody_may_write(tmp_path, unprivileged):
    pytest.importorskip("pystoi")
    save(tmp_path / "in" / "a.wav")
    (tmp_path / "locked").mkdir(mode=0o555)
    folders = ("--reference", tmp_path / "in", "--estimate", tmp_path / "in")
    process = unprivileged("evaluate", *folders, "-o", tmp_path / "locked" / "scores")
    assert (process.returncode, process.stdout) == (1, "")
    assert process.stderr == (
        f"sottovoce: cannot write {tmp_path / 'locked' / 'scores' / 'scores.csv'}: you may not write in "
        f"{tmp_path / 'locked'}; name another output\n"
    )
    # One sentence for the folder, not one for each recording.
    save(tmp_path / "in" / "b.wav")
    process = unprivileged("enhance", tmp_path / "in", "-o", tmp_path / "locked")
    assert (process.returncode, process.stdout) == (1, "")
    assert process.stderr == (
        f"sottovoce: cannot write in the output folder {tmp_path / 'locked'}: name one that you may write to\n"
    )


def test_a_file_that_turns_up_in_the_way(folder, monkeypatch, capsys):
    """What the system says of any other path is a sentence as well."""
    monkeypatch.setattr(sys, "argv", ["sottovoce", "info", "default"])

    def refuse(*_):
        raise PermissionError(13, "Permission denied", "/some/file")

    monkeypatch.setattr(Path, "open", refuse)
    assert cli.main() == 1
    err = capsys.readouterr().err
    assert "Permission denied" in err
    assert err.count("\n") == 1
