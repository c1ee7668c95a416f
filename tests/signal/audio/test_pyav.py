"""Reading what libsndfile does not read."""

import shutil

import numpy as np
import pytest

from sottovoce.errors import AudioError
from sottovoce.signal.audio import blocks, probe, read

from .files import cut, noise, save


class TestPyAV:
    @pytest.fixture(params=[("a.m4a", "aac"), ("a.webm", "libopus"), ("a.aac", "aac")], ids=lambda p: p[0])
    def recording(self, request, tmp_path):
        av = pytest.importorskip("av")
        name, codec = request.param
        tone = (0.5 * np.sin(2 * np.pi * 440 * np.arange(48000) / 48000)).astype(np.float32)
        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream(codec, rate=48000, layout="stereo")
            frame = av.AudioFrame.from_ndarray(np.repeat(tone, 2)[np.newaxis], format="flt", layout="stereo")
            frame.sample_rate = 48000
            for packet in [*stream.encode(frame), *stream.encode(None)]:
                container.mux(packet)
        return tmp_path / name

    def test_is_decoded(self, recording):
        info = probe(recording)
        assert (info.sample_rate, info.channels, info.format) == (48000, 2, recording.suffix[1:].upper())
        assert info.seconds == pytest.approx(1, abs=0.1)
        waveform, _ = read(recording)
        assert np.abs(np.fft.rfft(waveform[0, 4000:44000])).argmax() == round(440 * 40000 / 48000)
        assert 0.3 < np.abs(waveform).max() < 0.7
        np.testing.assert_array_equal(np.concatenate(list(blocks(recording, 5000)), axis=1), waveform)
        np.testing.assert_array_equal(read(recording, start=1234, frames=20000)[0], waveform[:, 1234:21234])
        assert {block.shape[1] for block in list(blocks(recording, 5000))[:-1]} == {5000}

    @pytest.mark.parametrize("recording", [("a.m4a", "aac")], indirect=True)
    def test_is_refused_when_cut(self, recording):
        with pytest.raises(AudioError, match="cut or damaged"):
            probe(cut(recording, 0.5))

    @pytest.mark.parametrize("name", ["a.mp3", "a.wav", "a.flac"])
    def test_content_decides_whatever_the_name(self, tmp_path, recording, name):
        shutil.copy(recording, tmp_path / name)
        info = probe(tmp_path / name)
        assert info.needs_pyav
        assert info.frames == probe(recording).frames
        np.testing.assert_array_equal(read(tmp_path / name)[0], read(recording)[0])

    def test_a_wav_with_another_name(self, tmp_path):
        path = save(tmp_path / "a.wav", noise(1000)).rename(tmp_path / "a.m4a")
        assert not probe(path).needs_pyav
        assert read(path)[0].shape == (1, 1000)

    def test_garbage(self, tmp_path):
        pytest.importorskip("av")
        (tmp_path / "a.m4a").write_bytes(b"no sound" * 100)
        with pytest.raises(AudioError, match="not a sound file"):
            probe(tmp_path / "a.m4a")
