"""The Gradio demo with the real package: an example goes in by its API, and what the command writes comes out."""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

EXAMPLES = Path(__file__).parents[1] / "examples"
RECORDING = EXAMPLES / "real" / "2609-156975-0004.flac"

pytestmark = pytest.mark.filterwarnings("ignore")  # those of gradio and what it imports


def test_short():
    assert len((EXAMPLES / "gradio_demo.py").read_text(encoding="utf-8").splitlines()) <= 30


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A client of the running demo."""
    pytest.importorskip("gradio", reason="gradio is not installed")
    from gradio_client import Client

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Where it keeps what is uploaded.
    environment = {"GRADIO_SERVER_PORT": str(port), "GRADIO_TEMP_DIR": str(tmp_path_factory.mktemp("gradio"))}
    server = subprocess.Popen(
        [sys.executable, EXAMPLES / "gradio_demo.py"],
        env=os.environ | environment | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    late = threading.Timer(300, server.kill)
    late.start()
    try:
        written = ""
        for line in server.stdout:
            written += line
            if "Running on local URL" in line:
                break
        else:
            pytest.fail(written)
        yield Client(f"http://127.0.0.1:{port}", verbose=False)
    finally:
        late.cancel()
        server.terminate()
        server.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("limit_db", [3, 20])
def test_gives_what_the_command_gives(demo, tmp_path, limit_db):
    from gradio_client import handle_file

    found, rate = sf.read(demo.predict(handle_file(RECORDING), limit_db, api_name="/enhance"), dtype="int16")
    words = ["enhance", RECORDING, "-o", tmp_path / "a.flac", "--limit-db", str(limit_db)]
    subprocess.run([sys.executable, "-m", "sottovoce", *words], check=True, capture_output=True)
    expected, expected_rate = sf.read(tmp_path / "a.flac", dtype="int16")
    assert rate == expected_rate
    np.testing.assert_array_equal(found, expected)
    recording, _ = sf.read(RECORDING, dtype="int16")
    assert not np.array_equal(found, recording)


@pytest.mark.slow
def test_says_what_is_wrong_with_a_file(demo, tmp_path):
    from gradio_client import handle_file

    (tmp_path / "a.wav").write_bytes(b"RIFF and nothing else")
    with pytest.raises(Exception, match=r"a\.wav"):
        demo.predict(handle_file(tmp_path / "a.wav"), 20, api_name="/enhance")
