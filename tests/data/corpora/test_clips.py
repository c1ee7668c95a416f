"""Clips of recordings, as batches hold them: any rate, any number of channels, shorter or longer than wanted."""

import numpy as np
import pytest

from sottovoce.data.corpora.harvest import NoiseStretch
from sottovoce.data.corpora.manifest import scan
from sottovoce.signal.audio import read
from sottovoce.signal.levels import rms_db

from ..drawn import drawn
from ..synthetic import RATE, tone, write


@pytest.mark.parametrize("rate", [8000, 22050, 48000])
def test_other_rates_are_resampled(tmp_path, rate):
    time = np.arange(3 * rate) / rate
    write(tmp_path / "a" / "0.wav", (0.1 * np.sin(2 * np.pi * 1000 * time)).astype(np.float32), rate)
    manifest = scan(tmp_path)
    batch = drawn(manifest, (manifest, [NoiseStretch(manifest.recordings[0], 0, 2 * rate)])).batch(0, "check")
    for clips in (batch.speech, batch.mixtures, batch.noise):
        power = np.abs(np.fft.rfft(clips * np.hanning(clips.shape[1]))) ** 2
        assert np.all(np.argmax(power, axis=1) == 1000 * clips.shape[1] // RATE)


def test_channels_are_mixed_down(tmp_path):
    from sottovoce.signal.audio import Writer

    rng = np.random.default_rng(0)
    one, other = 0.1 * rng.standard_normal((2, 2 * RATE)).astype(np.float32)
    (tmp_path / "a").mkdir()
    with Writer(tmp_path / "a" / "0.wav", RATE, 2) as writer:
        writer.write(np.stack([one, other]))
    manifest = scan(tmp_path)
    clip = drawn(manifest, (manifest, []), clip_seconds=2.0).batch(0, "check").mixtures[0]
    assert np.corrcoef(clip, one + other)[0, 1] > 0.9999


def test_short_recordings(tmp_path):
    """Utterances shorter than a clip follow one another; a short noisy recording ends in silence."""
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        write(tmp_path / "speech" / name / "0.wav", tone(0.6, 120, rng))
    noisy = tone(0.6, 120, rng) + (0.02 * rng.standard_normal(round(0.6 * RATE))).astype(np.float32)
    write(tmp_path / "mixtures" / "0.wav", noisy)
    batch = drawn(scan(tmp_path / "speech"), (scan(tmp_path / "mixtures"), [])).batch(0, "check")
    assert batch.speech.shape == (3, 1.5 * RATE)
    assert all(np.count_nonzero(clip) > 0.95 * clip.size for clip in batch.speech)
    assert not batch.mixtures[:, round(0.6 * RATE) :].any()
    assert batch.mixtures[:, : round(0.6 * RATE)].any()
    # The silence behind the recording is not its noise.
    assert all(rms_db(clip) > -50 for clip in batch.noise)


def test_short_stretches_are_joined(speech, mixtures):
    manifest, stretches = mixtures
    pieces = [NoiseStretch(s.recording, s.start + 100, round(0.3 * RATE)) for s in stretches]
    for clip in drawn(speech, (manifest, pieces), clip_seconds=5.0, noise_clips=4).batch(0, "check").noise:
        levels_db = [rms_db(part) for part in np.split(clip, 50)]
        assert max(levels_db) - min(levels_db) < 3


def test_without_pauses_stationary_noise_stands_in(speech, mixtures):
    manifest, _ = mixtures
    noise = drawn(speech, (manifest, []), noise_clips=6, clip_seconds=3.0).batch(0, "check").noise
    assert np.isfinite(noise).all()
    assert np.all(noise.std(axis=1) > 0)
    # White noise was under the tone: much of the power is where the tone has none.
    power = np.abs(np.fft.rfft(noise)) ** 2
    assert np.all(power[:, power.shape[1] // 4 :].sum(axis=1) > 0.4 * power.sum(axis=1))
    assert not drawn(speech, (manifest, []), noise_clips=0).batch(0, "joint").noise.size


def test_clips_are_parts_of_the_recordings(tmp_path):
    """A clip, at its own level, is found again in the recording."""
    rng = np.random.default_rng(3)
    write(tmp_path / "a" / "0.wav", (0.1 * rng.standard_normal(RATE)).astype(np.float32))
    manifest = scan(tmp_path)
    batch = drawn(manifest, (manifest, []), clip_seconds=0.3).batch(0, "check")
    whole = read(tmp_path / "a" / "0.wav")[0][0]
    for clip in (*batch.speech, *batch.mixtures):
        found = np.correlate(whole, clip, "valid")
        scale = np.sqrt(np.convolve(whole**2, np.ones(clip.size, np.float32), "valid") * np.square(clip).sum())
        assert np.max(found / scale) > 0.9999
