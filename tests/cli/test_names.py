"""Names from anybody, in files, models and settings, never act on the terminal that shows them."""

import json
import logging
import sys

import numpy as np
import onnx
import pytest
import soundfile as sf

from sottovoce import cli, terminal
from sottovoce.engine.model_file import METADATA_KEY, seal

from ..conftest import build_identity_model

NASTY = "a\x1b[31m\x9b2J\u202e$5[red]"
SHOWN = r"a\x1b[31m\x9b2J\u202e$5[red]"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="names that Windows does not take")


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a command; gives its exit code and what it printed, which holds no control character."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["sottovoce", *map(str, arguments)])
        code = cli.main()
        printed = capsys.readouterr()
        text = printed.out + printed.err
        assert not [character for character in text if not character.isprintable() and character != "\n"]
        return code, text

    return run


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / f"{NASTY}.wav"
    sf.write(path, 0.1 * np.ones(8000), 16000)
    return path


def test_files_of_enhance(tmp_path, run, recording, identity_model):
    code, text = run(
        "enhance", recording, tmp_path / f"{NASTY}\n2.wav", "-o", tmp_path / "out", "--model", identity_model
    )
    assert code == 1
    assert SHOWN + r"\n2.wav" in text
    code, text = run("enhance", recording, "-o", tmp_path / "out", "--model", identity_model)
    assert code == 1
    assert SHOWN in text  # it exists


def test_files_of_plot_and_info(tmp_path, run, recording):
    assert run("plot", recording, "-o", tmp_path / "a.png")[0] == 0
    code, text = run("plot", tmp_path / f"none{NASTY}.wav", "-o", tmp_path / "b.png")
    assert (code, SHOWN in text) == (1, True)
    code, text = run("info", tmp_path / f"none{NASTY}.wav")
    assert (code, SHOWN in text) == (1, True)


def test_models(tmp_path, run):
    graph = onnx.load_from_string(build_identity_model(tmp_path / "model.onnx").read_bytes()[:-86])
    content = json.loads(graph.metadata_props[0].value)
    content |= {"name": NASTY, "licence": f"MIT\nrate  {NASTY}", "training_data": [NASTY], "command": "\ud800"}
    onnx.helper.set_model_props(graph, {METADATA_KEY: json.dumps(content)})
    (tmp_path / "model.onnx").write_bytes(seal(graph.SerializeToString()))
    code, text = run("info", tmp_path / "model.onnx")
    assert code == 0
    lines = text.splitlines()
    assert f"name      {SHOWN}" in lines
    assert f"data      {SHOWN}" in lines
    assert r"command   \ud800" in lines
    # A value cannot pass for a line of its own.
    assert [line for line in lines if line.startswith("rate")] == ["rate      16000 Hz"]


def test_settings(tmp_path, run):
    path = tmp_path / "mine.yaml"
    path.write_text(json.dumps({"base": "default", NASTY: 1}), encoding="utf-8")
    code, text = run("train", "--speech", tmp_path, "--mixtures", tmp_path, "-o", tmp_path / "run", "--config", path)
    assert code == 1
    assert f"{SHOWN}: unknown key" in text


def test_commands_and_arguments(run):
    assert run(NASTY)[0] == 2


def test_warnings_and_tables(capsys):
    with terminal.progress():
        logging.getLogger("sottovoce.x").warning("%s came in", NASTY)
    terminal.print_table([["file", NASTY], ["[red]a", f":smile: {NASTY}"]], title=NASTY)
    printed = capsys.readouterr()
    assert printed.err == f"sottovoce: {SHOWN} came in\n"
    assert "\x1b" not in printed.out
    assert printed.out.count(SHOWN) == 3
    assert "[red]a" in printed.out
    assert ":smile:" in printed.out
