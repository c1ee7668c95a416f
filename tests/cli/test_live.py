"""`sottovoce live` between two sinks of a real sound server, which is started here and is nobody else's.

Needs, in Debian's names, pulseaudio, pulseaudio-utils, libasound2-plugins and libportaudio2; and for the other server
pipewire, pipewire-pulse, wireplumber and dbus. Skipped without them.
"""

import contextlib
import ctypes.util
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

import sottovoce
from sottovoce import cli

NOISY = Path(__file__).parents[2] / "examples" / "pairs" / "noisy" / "fileid_0040.flac"
RATE = 16000
SECONDS = 5
COUNTS = re.compile(r"Ran 0:[\d.]+: (\d+) overrun\(s\), in which sound was lost, and (\d+) underrun\(s\)")

NEEDED = {
    "pulseaudio": shutil.which("pulseaudio"),
    "pulseaudio-utils": shutil.which("paplay") and shutil.which("parec"),
    "libasound2-plugins": list(Path("/usr").glob("lib*/**/alsa-lib/libasound_module_pcm_pulse.so")),
    "libportaudio2": ctypes.util.find_library("portaudio"),
    "sounddevice": importlib.util.find_spec("sounddevice"),
}
MISSING = [name for name, found in NEEDED.items() if not found]
with_devices = [
    pytest.mark.live,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]


class Server:
    """A private PulseAudio server with the sinks `noisy` and `clean`."""

    def __init__(self, folder):
        self.socket = folder / "native"
        self.environment = os.environ | {
            "HOME": str(folder),
            "XDG_RUNTIME_DIR": str(folder),
            "PULSE_SERVER": f"unix:{self.socket}",
            # What ALSA's device `pulse` is, for the one program that gets this environment.
            "PULSE_SOURCE": "noisy.monitor",
            "PULSE_SINK": "clean",
        }
        self.process = self.start()
        deadline = time.monotonic() + 20
        while self.run("pactl", "info").returncode and time.monotonic() < deadline:
            time.sleep(0.05)

    def start(self):
        command = ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no"]
        command += ["--disable-shm=yes", "--realtime=no", "--high-priority=no"]
        modules = [
            f"module-native-protocol-unix socket={self.socket} auth-anonymous=1",
            "module-null-sink sink_name=noisy rate=48000",
            "module-null-sink sink_name=clean rate=48000",
        ]
        for module in modules:
            command += ["-L", module]
        return subprocess.Popen(command, env=self.environment, stderr=subprocess.DEVNULL)

    def run(self, *command):
        return subprocess.run(command, check=False, env=self.environment, capture_output=True, text=True, timeout=60)

    def live(self, *arguments, **streams):
        """Start `sottovoce live` on the device of the server, and read its first line."""
        command = [sys.executable, "-m", "sottovoce", "live", "--input", "pulse", "--output", "pulse", *arguments]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
        process = subprocess.Popen(command, env=self.environment, text=True, **streams)
        return process, process.stdout.readline() if process.stdout else ""

    @contextlib.contextmanager
    def recording(self, sink, path):
        """Record, as 32-bit floats, what is played to a sink; in short pieces, so that its end is not lost."""
        command = ["parec", "-d", f"{sink}.monitor", f"--rate={RATE}", "--channels=1", "--format=float32le"]
        with path.open("wb") as file:
            process = subprocess.Popen([*command, "--latency-msec=60"], stdout=file, env=self.environment)
            try:
                yield
            finally:
                process.terminate()
                process.wait(timeout=20)

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=20)


class PipeWireServer(Server):
    """The same of PipeWire, with the session manager and the bus that it needs."""

    def __init__(self, folder):
        folder.chmod(0o700)
        super().__init__(folder)
        # With a session manager sinks are made when the server has begun.
        for name in ("noisy", "clean"):
            self.run("pactl", "load-module", "module-null-sink", f"sink_name={name}")
        deadline = time.monotonic() + 20
        while "clean.monitor" not in self.run("pactl", "list", "short", "sources").stdout:
            assert time.monotonic() < deadline, "PipeWire made no sink"
            time.sleep(0.05)

    def start(self):
        self.socket.with_name("pulse").mkdir()
        self.environment["PULSE_SERVER"] = f"unix:{self.socket.with_name('pulse') / 'native'}"
        script = "pipewire & sleep 0.5; wireplumber & pipewire-pulse & wait"
        return subprocess.Popen(
            ["dbus-run-session", "--", "sh", "-c", script],
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def stop(self):
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(timeout=20)


@pytest.fixture
def server(tmp_path_factory):
    # The name of a socket has at most 107 characters.
    server = Server(tmp_path_factory.mktemp("pa"))
    yield server
    server.stop()


@pytest.fixture
def pipewire(tmp_path_factory):
    missing = [
        name for name in ("pipewire", "pipewire-pulse", "wireplumber", "dbus-run-session") if not shutil.which(name)
    ]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    server = PipeWireServer(tmp_path_factory.mktemp("pw"))
    yield server
    server.stop()


def similarities(recording, sound):
    """Return, for every half second of a sound, its correlation with the part of a recording that fits it best."""
    length = RATE // 2
    energy = np.convolve(recording.astype(np.float64) ** 2, np.ones(length), "valid")
    size = 1 << (len(recording) + length).bit_length()
    spectrum = np.fft.rfft(recording, size)
    found = []
    for start in range(0, len(sound) - length + 1, length):
        piece = sound[start : start + length]
        products = np.fft.irfft(spectrum * np.conj(np.fft.rfft(piece, size)), size)[: len(energy)]
        found.append(np.max(products / np.sqrt((energy + 1e-9) * np.sum(piece**2))))
    return np.array(found)


class TestWithDevices:
    pytestmark = with_devices

    def test_lists_the_devices(self, server):
        process = server.run(sys.executable, "-m", "sottovoce", "live", "--list-devices")
        assert process.returncode == 0
        assert re.search(r"^ *\d+ +\d+ +\d+ +\d+ +pulse \(ALSA\)", process.stdout, re.MULTILINE)

    @pytest.mark.slow
    @pytest.mark.parametrize(("kind", "rate"), [("server", RATE), ("server", 48000), ("pipewire", RATE)])
    def test_enhanced_sound_comes_out(self, request, tmp_path, kind, rate):
        server = request.getfixturevalue(kind)
        noisy, _ = sf.read(NOISY, frames=SECONDS * RATE, dtype="float32")
        sf.write(tmp_path / "noisy.wav", noisy, RATE, subtype="FLOAT")
        with server.recording("noisy", tmp_path / "played"), server.recording("clean", tmp_path / "came out"):
            # Long blocks, so that a busy machine makes few gaps.
            live, line = server.live("--rate", str(rate), "--block-ms", "60")
            assert re.match(rf"From 'pulse' to 'pulse' at {rate} Hz, latency \d+ ms: model \d+", line)
            assert server.run("paplay", "-d", "noisy", str(tmp_path / "noisy.wav")).returncode == 0
            time.sleep(1)
            live.send_signal(signal.SIGINT)
            printed, errors = live.communicate(timeout=30)
        assert (live.returncode, errors) == (0, "")
        assert COUNTS.match(printed)
        # Not the file itself: on its way to the model the server resamples it, and that changes the model's output.
        played, came_out = (np.fromfile(tmp_path / name, "<f4") for name in ("played", "came out"))
        first = np.flatnonzero(np.abs(played) > 1e-3)[0]
        sounding = slice(first, first + len(noisy))
        # Half seconds, since a gap is no fault of what is tested here.
        to_enhanced = similarities(came_out, sottovoce.enhance(played, RATE)[sounding])
        to_played = similarities(came_out, played[sounding])
        assert len(to_played) >= 2 * (SECONDS - 1)
        assert np.median(to_enhanced) > 0.96, printed
        assert np.mean(to_enhanced > to_played) >= 0.8, printed

    def test_ends_after_the_time_it_is_given(self, server):
        process, _ = server.live("--seconds", "1")
        printed, errors = process.communicate(timeout=30)
        assert (process.returncode, errors) == (0, "")
        assert COUNTS.match(printed)

    @pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
    def test_ends_by_a_signal(self, server, name):
        process, _ = server.live()
        process.send_signal(getattr(signal, name))
        printed, errors = process.communicate(timeout=30)
        assert (process.returncode, errors) == (0, "")
        assert COUNTS.match(printed)

    @pytest.mark.parametrize("happens", ["it ends", "it does not answer"])
    def test_a_device_that_goes_is_reported(self, server, happens):
        process, _ = server.live()
        time.sleep(0.5)
        if happens == "it ends":
            server.stop()
        else:
            server.process.send_signal(signal.SIGSTOP)
        try:
            printed, errors = process.communicate(timeout=30)
        finally:
            server.process.send_signal(signal.SIGCONT)
        assert process.returncode == 1
        assert COUNTS.match(printed)
        (line,) = errors.splitlines()
        assert re.match(r"sottovoce: the (in|out)put device 'pulse' is gone or stopped: ", line)

    def test_keys_and_meters_of_a_terminal(self, server):
        controller, terminal = os.openpty()
        process, _ = server.live(stdin=terminal, stdout=terminal)
        os.close(terminal)
        seen = b""

        def until(words):
            nonlocal seen
            deadline = time.monotonic() + 20
            while words not in seen and time.monotonic() < deadline:
                seen += os.read(controller, 1000)
            assert words in seen

        until(b"b bypasses")
        os.write(controller, b"b")
        until(b"bypassed: b enhances again")
        os.write(controller, b"q")
        until(b"underrun(s)")
        assert process.wait(timeout=30) == 0
        process.stderr.close()
        os.close(controller)
        assert b"before" in seen
        assert b"dBFS" in seen

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (
                ["--input", "no such microphone"],
                "found none or several for 'no such microphone', expected one input device",
            ),
            (["--output", "77"], "found none or several for 77, expected one output device"),
            (["--input", "pulse", "--output", "pulse", "--rate", "16000", "--channels", "77"], "expected 77 at least"),
            (["--block-ms", "0"], "expected 1 to 500 ms"),
            (["--mix", "2"], "expected a number from 0"),
            (["--for-asr", "--mix", "0.3"], "found --for-asr and --mix 0.3"),
            (["--channels", "0"], "expected positive numbers"),
        ],
    )
    def test_what_cannot_be_is_refused(self, server, arguments, words):
        process = server.run(sys.executable, "-m", "sottovoce", "live", *arguments)
        assert (process.returncode, process.stdout) == (1, "")
        (line,) = (line for line in process.stderr.splitlines() if line.startswith("sottovoce:"))
        assert words in line


@pytest.mark.parametrize(
    ("absent", "words"),
    [
        ("sys.modules['sounddevice'] = None", "run `pip install 'sottovoce[live]'`"),
        ("import ctypes.util; ctypes.util.find_library = lambda name: None", "found no PortAudio library"),
    ],
)
@pytest.mark.skipif(importlib.util.find_spec("sounddevice") is None, reason="sounddevice is not installed")
def test_without_sounddevice_or_portaudio(absent, words):
    code = f"import sys; {absent}; sys.argv[1:] = ['live']; from sottovoce.cli import main; sys.exit(main())"
    process = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60)
    assert (process.returncode, process.stdout) == (1, "")
    (line,) = process.stderr.splitlines()
    assert words in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--keep-place", "new.place"], "without --adapt"),
        (["--adapt", "--keep-place", "new.onnx"], "a name that ends in .place"),
        (["--adapt", "--keep-place", "here.place"], "found here.place, which is kept"),
        (["--adapt", "--model", "here.place"], "expected a training checkpoint"),
        (["--adapt", "--model", "nowhere"], "found no training checkpoint at nowhere"),
    ],
)
def test_what_cannot_be_adapted_or_kept_is_one_sentence(arguments, words, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sottovoce.cli.live.require", lambda *_: None)
    Path("here.place").write_text("kept")
    monkeypatch.setattr("sys.argv", ["sottovoce", "live", *arguments])
    assert cli.main() == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert Path("here.place").read_text() == "kept"
