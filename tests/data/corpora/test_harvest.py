import numpy as np
import pytest

import sottovoce
from sottovoce.data.corpora import harvest as harvest_module
from sottovoce.data.corpora.harvest import harvest, harvest_residuals, harvest_speechless, stationary_noise
from sottovoce.data.corpora.manifest import scan
from sottovoce.signal.audio import read
from sottovoce.signal.resampling import resample

from ...systems import EXAMPLES
from ..synthetic import RATE, tone, write


def recording(pauses, rng):
    """A hum with pauses over steady noise, and the pauses in samples."""
    pieces, truth, position = [], [], 0
    for seconds in pauses:
        pieces += [tone(3.0, rng.uniform(100, 200), rng), np.zeros(round(seconds * RATE), np.float32)]
        position += 3 * RATE
        truth.append((position, position + pieces[-1].size))
        position += pieces[-1].size
    speech = np.concatenate(pieces)
    return (speech + 0.003 * rng.standard_normal(speech.size)).astype(np.float32), truth


@pytest.fixture
def mixtures(tmp_path):
    waveform, truth = recording((1.5, 2.0, 1.0, 2.5), np.random.default_rng(1))
    write(tmp_path / "mixtures" / "a.wav", waveform)
    return scan(tmp_path / "mixtures"), truth


def test_pauses_are_found(mixtures):
    manifest, truth = mixtures
    seen = []
    stretches = harvest(manifest, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 1)]
    assert len(stretches) == len(truth)
    for stretch, (start, end) in zip(stretches, truth, strict=True):
        assert start <= stretch.start
        assert stretch.start + stretch.frames <= end
        assert stretch.seconds == stretch.frames / RATE
        waveform, _ = read(stretch.recording.path, start=stretch.start, frames=stretch.frames)
        assert np.abs(waveform).max() < 0.02


def test_windows_do_not_move_what_is_found(mixtures, monkeypatch):
    manifest, truth = mixtures
    monkeypatch.setattr(harvest_module, "_WINDOW_SECONDS", 10.0)
    for stretch in harvest(manifest):
        assert any(start <= stretch.start and stretch.start + stretch.frames <= end for start, end in truth)
    assert harvest(manifest)


def test_no_pause_no_noise(tmp_path):
    rng = np.random.default_rng(2)
    write(tmp_path / "a.wav", tone(15.0, 150, rng) + (0.003 * rng.standard_normal(15 * RATE)).astype(np.float32))
    assert harvest(scan(tmp_path)) == ()


def test_other_rates_give_positions_of_their_own(tmp_path):
    waveform, truth = recording((1.5, 2.0, 2.5), np.random.default_rng(3))
    write(tmp_path / "a.wav", resample(waveform, RATE, 48000), 48000)
    stretches = harvest(scan(tmp_path))
    assert len(stretches) == len(truth)
    for stretch, (start, end) in zip(stretches, truth, strict=True):
        assert 3 * start <= stretch.start
        assert stretch.start + stretch.frames <= 3 * end


@pytest.mark.parametrize("slope", [0.9, -0.9], ids=["low", "high"])
def test_stationary_noise_has_the_spectrum_between_words(slope):
    """Coloured noise under a rhythmic voice: what is made has the noise's colour and nothing of the voice."""
    rng = np.random.default_rng(0)
    white = rng.standard_normal(20 * RATE)
    noise = 0.01 * np.convolve(white, slope ** np.arange(100))[: white.size]
    syllables = (np.sin(2 * np.pi * 2 * np.arange(white.size) / RATE) > 0).astype(np.float32)
    noisy = noise + 3 * tone(20.0, 300, rng) * syllables
    made = stationary_noise(noisy.astype(np.float32), 10 * RATE, rng)
    assert made.shape == (10 * RATE,)
    assert made.dtype == np.float32

    def bands_db(waveform):
        power = np.abs(np.fft.rfft(waveform * np.hanning(waveform.size))) ** 2
        return 10 * np.log10([band.mean() for band in np.array_split(power, 16)])

    shape_db = bands_db(made) - bands_db(noise[: made.size])
    # A tenth of the frames is below about a tenth of the mean power: 10 dB, the same in all bands.
    assert np.ptp(shape_db) < 4
    assert -16 < shape_db.mean() < -6


def test_stationary_noise_is_drawn_anew():
    rng = np.random.default_rng(0)
    waveform = rng.standard_normal(RATE).astype(np.float32)
    one, other = (stationary_noise(waveform, RATE, np.random.default_rng(seed)) for seed in (1, 2))
    np.testing.assert_array_equal(one, stationary_noise(waveform, RATE, np.random.default_rng(1)))
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.05


@pytest.mark.parametrize("samples", [1, 300, 40000])
def test_stationary_noise_has_the_length(samples):
    short = np.random.default_rng(0).standard_normal(600).astype(np.float32)
    noise = stationary_noise(short, samples, np.random.default_rng(0))
    assert noise.shape == (samples,)
    assert np.isfinite(noise).all()
    assert not stationary_noise(np.zeros(RATE, np.float32), samples, np.random.default_rng(0)).any()


@pytest.fixture
def unpaused(tmp_path):
    """A voice that hardly draws breath over noise: the manifest, the voice and the noise."""
    rng = np.random.default_rng(4)
    breath = np.zeros(round(0.3 * RATE), np.float32)
    voice = np.concatenate([part for _ in range(12) for part in (tone(0.7, rng.uniform(100, 200), rng), breath)])
    noise = (0.05 * rng.standard_normal(voice.size)).astype(np.float32)
    write(tmp_path / "place" / "a.wav", voice + noise)
    return scan(tmp_path / "place"), voice, noise


def test_noise_is_where_a_system_finds_no_speech(mixtures, tmp_path):
    manifest, truth = mixtures
    seen = []

    def speech_alone(waveform):
        speech = waveform.copy()
        for start, end in truth:
            speech[start:end] *= 0.01
        return speech

    stretches = harvest_speechless(
        manifest.recordings, speech_alone, progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(1, 1)]
    assert len(stretches) == len(truth)
    for stretch, (start, end) in zip(stretches, truth, strict=True):
        assert start < stretch.start
        assert stretch.start + stretch.frames <= end
        assert stretch.frames > end - start - 0.6 * RATE
    # The last pause ends with the recording, and needs no guard there.
    assert stretches[-1].start + stretches[-1].frames == manifest.recordings[0].frames
    assert harvest_speechless(manifest.recordings, lambda waveform: waveform + 0.1) == ()


def test_silence_and_short_recordings_hold_no_noise(tmp_path):
    write(tmp_path / "a.wav", np.full(RATE, 0.1, np.float32))
    recordings = scan(tmp_path).recordings
    assert harvest_speechless(recordings, np.zeros_like) == ()
    assert harvest_speechless(recordings, lambda waveform: waveform[:100]) == ()


def test_a_real_system_finds_no_speech_where_nobody_speaks(tmp_path):
    """Real mixtures behind three seconds of their own noise: what is found is noise, and the lead-in is found."""
    enhancer = sottovoce.load()
    rng = np.random.default_rng(1)
    shares, found = [], 0.0
    for clean_path in sorted((EXAMPLES / "pairs" / "clean").glob("*.flac"))[:3]:
        clean, _ = read(clean_path)
        noise = read(EXAMPLES / "pairs" / "noisy" / clean_path.name)[0] - clean
        lead_in = np.resize(noise[0], 3 * RATE) * rng.uniform(0.9, 1.1)
        clean = np.concatenate([np.zeros(3 * RATE, np.float32), clean[0]])
        noisy = clean + np.concatenate([lead_in, noise[0]])
        write(tmp_path / f"{clean_path.stem}.wav", noisy.astype(np.float32))
        (recording,) = [r for r in scan(tmp_path).recordings if r.path.stem == clean_path.stem]
        for stretch in harvest_speechless([recording], lambda waveform: enhancer.enhance(waveform, RATE)):
            part = slice(stretch.start, stretch.start + stretch.frames)
            found += stretch.seconds
            shares.append(np.square(clean[part]).sum() / np.square(noisy[part]).sum())
    assert found > 4.0
    assert np.median(shares) < 0.01


def test_noise_is_what_a_system_takes_away(tmp_path, unpaused):
    manifest, voice, noise = unpaused
    assert harvest(manifest) == ()
    stretches = harvest_residuals(manifest.recordings, lambda _: voice, tmp_path / "residuals")
    assert sum(stretch.seconds for stretch in stretches) >= 10.0
    for stretch in stretches:
        waveform, _ = read(stretch.recording.path, start=stretch.start, frames=stretch.frames)
        assert np.abs(waveform[0] - noise[stretch.start : stretch.start + stretch.frames]).max() < 1e-3
        assert stretch.recording.group == manifest.recordings[0].group


def test_residuals_that_hold_the_voice_are_left_out(tmp_path, unpaused):
    manifest, voice, _ = unpaused
    assert harvest_residuals(manifest.recordings, lambda _: 0.3 * voice, tmp_path / "residuals") == ()


def test_the_error_of_a_system_is_no_noise(tmp_path, unpaused):
    manifest, _, noise = unpaused
    assert harvest_residuals(manifest.recordings, lambda noisy: noisy - 0.03 * noise, tmp_path / "residuals") == ()


def test_residuals_are_made_once(tmp_path, unpaused):
    manifest, voice, _ = unpaused
    first = harvest_residuals(manifest.recordings, lambda _: voice, tmp_path / "residuals")

    def broken(_):
        raise AssertionError("found a second enhancement, expected the residual that is there")

    assert harvest_residuals(manifest.recordings, broken, tmp_path / "residuals") == first


def test_little_of_real_residuals_is_speech(tmp_path):
    """The bundled model on noisy speech whose clean version this test alone reads."""
    enhancer = sottovoce.load()
    noisy = scan(EXAMPLES / "pairs" / "noisy").recordings
    stretches = harvest_residuals(noisy, lambda waveform: enhancer.enhance(waveform, RATE), tmp_path / "residuals")
    assert sum(stretch.seconds for stretch in stretches) > 5.0
    shares = []
    for stretch in stretches:
        part = {"start": stretch.start, "frames": stretch.frames}
        residual, _ = read(stretch.recording.path, **part)
        clean, _ = read(EXAMPLES / "pairs" / "clean" / f"{stretch.recording.path.stem}.flac", **part)
        speech = clean[0] * (residual[0] @ clean[0]) / max(float(clean[0] @ clean[0]), 1e-9)
        shares.append(np.sum(np.square(speech)) / np.sum(np.square(residual[0])))
    assert np.median(shares) < 0.2
