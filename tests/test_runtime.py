"""ONNX Runtime writes nothing to standard error, whatever the machine and the use."""

import os
import shutil
import subprocess
import sys

import pytest

from sottovoce import runtime

LINUX = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="the runtime searches /sys on Linux alone")
USE = """
import threading
import numpy as np
import sottovoce

def use():
    for name in ("live", "default"):
        sottovoce.load(name).enhance(np.zeros((2, 800), np.float32), 16000)

threads = [threading.Thread(target=use) for _ in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print("enhanced")
"""
# Another folder in the place of /sys/class, for this process alone, has a graphics card and an NPU without any data.
DEVICES = (
    "mount -t tmpfs none /sys/class && mkdir -p /sys/class/drm/card0/device /sys/class/accel/accel0/device && "
    'exec "$0" "$@"'
)
UNSHARE = ["unshare", "--mount", "sh", "-c", DEVICES]


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Put a module of this code in the place of onnxruntime, until it was imported."""

    def put(code):
        (tmp_path / "onnxruntime.py").write_text(code, encoding="utf-8")
        monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
        monkeypatch.syspath_prepend(tmp_path)

    yield put
    sys.modules.pop("onnxruntime", None)


@LINUX
def test_warnings_at_the_import_are_held_back_and_nothing_else(stand_in, capfd):
    stand_in(
        "import os\n"
        "os.write(2, b'\\x1b[0;93m2026 [W:onnxruntime:Default, device_discovery.cc:1 F] No.\\x1b[m\\n')\n"
        "os.write(2, b'[E:onnxruntime:Default, a.cc:1 F] an error\\n')\n"
        "os.write(2, b'of another thread')\n"
        "name = 'imported'\n"
    )
    assert runtime.load_onnxruntime().name == "imported"
    os.write(2, b", later")
    assert capfd.readouterr().err == "[E:onnxruntime:Default, a.cc:1 F] an error\nof another thread, later"


def test_standard_error_comes_back_after_an_import_that_fails(stand_in, capfd):
    stand_in("import os; os.write(2, b'before, '); raise ImportError")
    with pytest.raises(ImportError):
        runtime.load_onnxruntime()
    os.write(2, b"later")
    assert capfd.readouterr().err == "before, later"


def written_by(*before, code=USE, arguments=(), **options):
    process = subprocess.run(
        [*before, sys.executable, "-c", code, *arguments],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        **options,
    )
    assert process.stdout == "enhanced\n"
    return process.stderr


def test_many_models_in_threads_write_nothing():
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    assert written_by(env=environment) == ""


def test_a_closed_standard_error_is_no_error():
    assert written_by(code=f"import os; os.close(2)\n{USE}") == ""


@LINUX
def test_devices_that_cannot_be_read_are_no_warning():
    if (
        shutil.which("unshare") is None
        or subprocess.run([*UNSHARE, "true"], check=False, capture_output=True).returncode
    ):
        pytest.skip("no right to mount another /sys/class")
    assert "device_discovery" in written_by(*UNSHARE, code="import onnxruntime; print('enhanced')")
    assert written_by(*UNSHARE) == ""
