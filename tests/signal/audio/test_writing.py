"""Writing sound files: whole or not at all."""

import subprocess
import sys

import numpy as np
import pytest

from sottovoce.errors import AudioError
from sottovoce.signal.audio import AudioInfo, Writer, probe, read

from .files import noise


class TestWriter:
    def test_nothing_stays_behind_after_an_exception(self, tmp_path):
        with pytest.raises(KeyboardInterrupt), Writer(tmp_path / "a.wav", 16000, 1) as writer:  # noqa: PT012
            writer.write(noise(100))
            assert len(list(tmp_path.iterdir())) == 1
            assert not (tmp_path / "a.wav").exists()
            raise KeyboardInterrupt
        assert list(tmp_path.iterdir()) == []

    def test_keeps_existing_files(self, tmp_path):
        path = tmp_path / "a.wav"
        path.write_bytes(b"precious")
        with pytest.raises(AudioError, match="exists and is kept"):
            Writer(path, 16000, 1)
        assert path.read_bytes() == b"precious"
        with Writer(path, 16000, 1, overwrite=True) as writer:
            writer.write(noise(100))
            assert path.read_bytes() == b"precious"
        assert probe(path).frames == 100

    def test_keeps_files_that_appear_meanwhile(self, tmp_path):
        path = tmp_path / "a.wav"
        with pytest.raises(AudioError, match="exists"), Writer(path, 16000, 1) as writer:  # noqa: PT012
            writer.write(noise(100))
            path.write_bytes(b"precious")
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize("name", ["a.wav", "a.aiff", "a.w64", "a.caf"])
    @pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
    def test_equal_sound_gives_equal_files_at_any_time(self, tmp_path, name, subtype):
        like = AudioInfo(tmp_path / name, 16000, 1, 100, "WAV", subtype)
        with Writer(tmp_path / name, 16000, 1, like=like) as writer:
            writer.write(noise(100))
        content = (tmp_path / name).read_bytes()
        if name in ("a.wav", "a.aiff"):
            start = content.index(b"PEAK") + 8  # of its version, which the time follows
            assert content[start + 4 : start + 8] == bytes(4)
        np.testing.assert_array_equal(read(tmp_path / name)[0], noise(100))

    def test_no_samples(self, tmp_path):
        with pytest.raises(AudioError, match="no samples to write"), Writer(tmp_path / "a.mp3", 16000, 1):
            pass
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("name", ["none/a.wav", "file/a.wav"])
    def test_not_writable(self, tmp_path, name):
        (tmp_path / "file").touch()
        with pytest.raises(AudioError, match=r"cannot write .* \(.+\): name a folder"):
            Writer(tmp_path / name, 16000, 1).__enter__()

    def test_target_is_a_folder(self, tmp_path):
        (tmp_path / "a.wav").mkdir()
        with pytest.raises(AudioError, match="found a folder"):
            Writer(tmp_path / "a.wav", 16000, 1, overwrite=True)

    def test_wrong_shape(self, tmp_path):
        with (
            pytest.raises(ValueError, match="expected \\(2, samples\\)"),
            Writer(tmp_path / "a.wav", 16000, 2) as writer,
        ):
            writer.write(noise(100))

    @pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "PCM_U8"])
    def test_integers_are_limited_and_counted(self, tmp_path, subtype, caplog):
        like = AudioInfo(tmp_path / "x.wav", 16000, 1, 5, "WAV", subtype)
        with Writer(tmp_path / "a.wav", 16000, 1, like=like) as writer:
            writer.write(np.array([[0.5, 1.0, -1.0, 1.5, -2.0]], np.float32))
        assert "2 samples were beyond full scale" in caplog.text
        np.testing.assert_allclose(read(tmp_path / "a.wav")[0], [[0.5, 1, -1, 1, -1]], atol=1 / 127)

    @pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
    def test_floats_are_not_limited(self, tmp_path, subtype, caplog):
        like = AudioInfo(tmp_path / "x.wav", 16000, 1, 2, "WAV", subtype)
        with Writer(tmp_path / "a.wav", 16000, 1, like=like) as writer:
            writer.write(np.array([[1.5, -2.0]], np.float32))
        assert not caplog.records
        np.testing.assert_array_equal(read(tmp_path / "a.wav")[0], [[1.5, -2.0]])

    @pytest.mark.parametrize("name", ["a.mp3", "a.ogg", "a.opus"])
    @pytest.mark.parametrize("peak", [1.5, 100.0, 7e8, 3e38])
    def test_what_would_end_an_encoder_is_limited_before_it(self, tmp_path, name, peak, caplog):
        sound = np.float32(peak) * np.sin(0.05 * np.arange(24000, dtype=np.float32))[np.newaxis]
        with Writer(tmp_path / name, 48000, 1) as writer:
            writer.write(sound)
        back = read(tmp_path / name)[0]
        assert back.shape == sound.shape
        # What is limited is a square wave, whose edges lossy encoders overshoot.
        assert 0.7 * min(peak, 10) < np.abs(back).max() < 4 * min(peak, 10)
        assert ("were beyond 20 dB above full scale and were limited to ±10" in caplog.text) == (peak > 10)

    def test_integers_are_rounded_not_truncated(self, tmp_path):
        with Writer(tmp_path / "a.wav", 16000, 1) as writer:
            writer.write(np.array([[0.6, 0.4, -0.4, -0.6]], np.float32) / 32768)
        np.testing.assert_array_equal(read(tmp_path / "a.wav")[0] * 32768, [[1, 0, 0, -1]])

    @pytest.mark.skipif(sys.platform == "win32", reason="limits are POSIX")
    def test_full_disk(self, tmp_path):
        code = f"""
import resource, signal
from pathlib import Path
import numpy as np
from sottovoce.errors import AudioError
from sottovoce.signal.audio import Writer

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
waveform = (0.1 * np.random.default_rng(0).standard_normal((1, 32000))).astype("f")
for name in ["a.wav", "a.flac", "a.ogg", "a.opus", "a.mp3", "a.aiff"]:
    for limit in [0, 100, 2000, 6000]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            with Writer(Path({str(tmp_path)!r}) / name, 16000, 1) as writer:
                for start in range(0, 32000, 1000):
                    writer.write(waveform[:, start : start + 1000])
        except AudioError as error:
            assert "cannot write" in str(error), error
        else:
            raise SystemExit(f"{{name}} was written to a disk of {{limit}} bytes")
"""
        process = subprocess.run(
            [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
        )
        assert (process.returncode, process.stdout, process.stderr) == (0, "", "")
        assert list(tmp_path.iterdir()) == []


def test_a_file_that_appears_meanwhile_is_kept(tmp_path):
    def write(path, overwrite):
        with Writer(path, 16000, 1, overwrite=overwrite) as writer:
            writer.write(noise(100))
            path.write_text("theirs", encoding="utf-8")

    with pytest.raises(AudioError, match=r"a\.wav exists and is kept"):
        write(tmp_path / "a.wav", overwrite=False)
    assert (tmp_path / "a.wav").read_text(encoding="utf-8") == "theirs"
    write(tmp_path / "b.wav", overwrite=True)
    assert probe(tmp_path / "b.wav").frames == 100
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav", "b.wav"]


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
def test_permissions_are_those_of_what_is_replaced(tmp_path):
    path = tmp_path / "a.wav"
    for permissions in (0o640, 0o600):
        path.touch()
        path.chmod(permissions)
        with Writer(path, 16000, 1, overwrite=True) as writer:
            writer.write(noise(100))
        assert path.stat().st_mode & 0o777 == permissions
