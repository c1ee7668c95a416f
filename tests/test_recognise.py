"""The example of a recogniser: its texts, and that it runs."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "examples" / "recognise.py"


@pytest.fixture(scope="module")
def recognise():
    spec = importlib.util.spec_from_file_location("recognise", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_texts_belong_to_recordings(recognise):
    assert recognise.TEXTS
    assert all((SCRIPT.parent / name).is_file() for name in recognise.TEXTS)


def test_without_the_recogniser_it_says_so():
    code = (
        "import runpy, sys; sys.modules['pocketsphinx'] = None; sys.argv = ['recognise.py']; "
        f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    )
    process = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60)
    assert (process.returncode, process.stdout) == (1, "")
    assert process.stderr == "found no pocketsphinx, which this example needs: run `pip install pocketsphinx`\n"


def run(*arguments):
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments], check=False, capture_output=True, text=True, timeout=300
    )


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("pocketsphinx") is None, reason="pocketsphinx is not installed")
def test_runs():
    process = run("real/jfk_inaugural_1961.flac", "--limit-db", "12")
    assert process.returncode == 0, process.stderr
    _, recording, total = process.stdout.splitlines()
    name, words, before, after = recording.split()
    assert (name, words) == ("real/jfk_inaugural_1961.flac", "22")
    # The recogniser understands some of it, which shows that it got the recording.
    assert 0 < int(before) < 16
    assert 0 < int(after) < 16
    assert total.startswith("word error rate")


@pytest.mark.skipif(importlib.util.find_spec("pocketsphinx") is None, reason="pocketsphinx is not installed")
def test_unknown_recording_is_refused():
    process = run("mine.wav")
    assert (process.returncode, process.stdout) == (1, "")
    assert process.stderr.startswith("found mine.wav, expected some of real/jfk")
