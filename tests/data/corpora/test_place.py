"""What is measured in a place, against sounds whose levels, spectra and rooms are known."""

import itertools

import numpy as np
import pytest

from sottovoce.data.corpora import place as place_module
from sottovoce.data.corpora.harvest import NoiseStretch, harvest
from sottovoce.data.corpora.manifest import scan
from sottovoce.data.corpora.place import BAND_CENTRES_HZ, MIN_SECONDS, listen, source_names, take_excerpts
from sottovoce.data.simulation.rooms import simulate_room
from sottovoce.errors import AudioError, DataError
from sottovoce.signal import audio, levels
from sottovoce.signal.resampling import resample
from sottovoce.weights import DEFAULT_SPEECH

from ..synthetic import RATE, tone, write


def talk(seconds, rng, room=None):
    """Real clean speech with a pause of a second behind every utterance."""
    files = audio.find_audio(DEFAULT_SPEECH)
    pieces, length = [], 0
    while length < seconds * RATE:
        waveform, rate = audio.read(files[rng.integers(len(files))])
        utterance = resample(waveform[0], rate, RATE)
        pieces += [0.05 * utterance / levels.rms(utterance), np.zeros(RATE, np.float32)]
        length += utterance.size + RATE
    speech = np.concatenate(pieces)[: round(seconds * RATE)].astype(np.float32)
    return speech if room is None else room.apply(speech)


def white(samples, level_db, rng):
    return (levels.from_db(level_db) * rng.standard_normal(samples)).astype(np.float32)


def measure(folder):
    manifest = scan(folder)
    return listen(manifest, harvest(manifest))


def test_levels_and_spectrum_of_white_noise(tmp_path):
    rng = np.random.default_rng(1)
    for index in range(3):
        speech = talk(20.0, rng)
        write(tmp_path / f"{index}.wav", speech + white(speech.size, -46.0, rng))
    place = measure(tmp_path)
    assert place.seconds == pytest.approx(60.0)
    assert place.has_speech
    assert place.noise_db == pytest.approx(-46.0, abs=1.0)
    # Voiced frames of speech of -26 dB are somewhat above it.
    assert 18.0 < place.snr_db < 28.0
    assert place.clipped_share == 0.0
    bands_db = place.noise_bands_db.mean(axis=0)
    # White noise has equal power per hertz, so a doubled bandwidth has 3 dB more; the bands end at half the rate.
    wide = (BAND_CENTRES_HZ > 400.0) & (BAND_CENTRES_HZ < 7000.0)
    slope_db = np.polyfit(np.log2(BAND_CENTRES_HZ[wide]), bands_db[wide], 1)[0]
    assert slope_db == pytest.approx(3.01, abs=0.3)
    assert levels.to_db(np.sqrt((10.0 ** (bands_db / 10.0)).sum())) == pytest.approx(place.noise_db, abs=1.5)


@pytest.mark.parametrize("t60_seconds", [0.3, 0.7])
def test_the_reverberation_time_is_found(tmp_path, t60_seconds):
    rng = np.random.default_rng(2)
    room = simulate_room(rng, RATE, (t60_seconds, t60_seconds + 0.01))
    for index in range(3):
        speech = talk(20.0, rng, room)
        write(tmp_path / f"{index}.wav", speech + white(speech.size, -60.0, rng))
    assert t60_seconds / 2 < measure(tmp_path).t60_seconds < 2 * t60_seconds


def test_noise_alone_has_no_speech_and_no_reverberation(tmp_path):
    write(tmp_path / "a.wav", white(30 * RATE, -30.0, np.random.default_rng(3)))
    place = measure(tmp_path)
    assert not place.has_speech
    assert np.isnan(place.t60_seconds)
    assert any("no pause shows it alone" in sentence for sentence in place.sentences())


def coloured(rng, low_hz, high_hz):
    """Four seconds of noise in a band."""
    spectrum = np.fft.rfft(rng.standard_normal(4 * RATE))
    frequency_hz = np.fft.rfftfreq(4 * RATE, 1 / RATE)
    return (0.1 * np.fft.irfft(spectrum * ((frequency_hz >= low_hz) & (frequency_hz < high_hz)))).astype(np.float32)


BANDS_HZ = {"fan": (60, 400), "crowd": (300, 2000), "rain": (2000, 8000), "insects": (5000, 6500)}


@pytest.mark.parametrize(
    ("kinds", "several"),
    [
        ({"fan": 2, "crowd": 5, "rain": 3}, False),
        ({"fan": 3, "crowd": 6, "rain": 4, "insects": 5}, True),
        # What is in one of many recordings is an event.
        ({"fan": 20, "crowd": 10, "rain": 1, "insects": 1}, False),
    ],
)
def test_kinds_of_noise_are_found_whatever_their_level(tmp_path, kinds, several):
    rng = np.random.default_rng(1)
    for kind, count in kinds.items():
        for index in range(count):
            gain = rng.uniform(0.1, 1.0)
            write(tmp_path / kind / f"{index}.wav", gain * coloured(rng, *BANDS_HZ[kind]) + white(4 * RATE, -100, rng))
    manifest = scan(tmp_path)
    place = listen(manifest, [NoiseStretch(recording, 0, recording.frames) for recording in manifest.recordings])
    common = {kind: count for kind, count in kinds.items() if count > 1}
    assert [len(members) for members in place.noises] == sorted(common.values(), reverse=True)
    for members in place.noises:
        (kind,) = {recording.path.parent.name for recording in members}
        assert len(members) == kinds[kind]
    assert place.is_several == several


def test_without_noise_there_are_no_kinds(tmp_path):
    write(tmp_path / "a.wav", white(4 * RATE, -40, np.random.default_rng(1)))
    place = listen(scan(tmp_path), [])
    assert place.noises == []
    assert not place.is_several


def test_excerpts_know_where_they_are_from(tmp_path):
    rng = np.random.default_rng(1)
    write(tmp_path / "long.wav", white(120 * RATE, -40, rng))
    take_excerpts(tmp_path / "long.wav", tmp_path / "one", RATE)
    names = source_names(tmp_path / "one")
    assert sorted(names) == audio.find_audio(tmp_path / "one")
    assert set(names.values()) >= {"minute 0.0", "minute 1.0"}
    write(tmp_path / "several" / "a.wav", white(20 * RATE, -40, rng))
    write(tmp_path / "several" / "b.wav", white(20 * RATE, -40, rng))
    take_excerpts(tmp_path / "several", tmp_path / "two", RATE)
    assert set(source_names(tmp_path / "two").values()) == {"a.wav", "b.wav"}


def test_clipping_is_reported(tmp_path):
    rng = np.random.default_rng(4)
    write(tmp_path / "a.wav", np.clip(40 * talk(20.0, rng), -1.0, 1.0))
    place = measure(tmp_path)
    assert place.clipped_share > 0.01
    assert any("at full scale" in sentence for sentence in place.sentences())


def test_excerpts_of_a_long_recording_are_spread_over_it(tmp_path, monkeypatch):
    monkeypatch.setattr(place_module, "MAX_SECONDS", 60.0)
    # The time is written into the level: excerpts show where they are from.
    ramp = np.linspace(0.0, 1.0, 400 * RATE, dtype=np.float32)
    write(tmp_path / "long.wav", ramp)
    read, original = [], audio.read

    def spy(path, *, start=0, frames=None):
        read.append(frames)
        return original(path, start=start, frames=frames)

    monkeypatch.setattr(place_module.audio, "read", spy)
    take_excerpts(tmp_path / "long.wav", tmp_path / "out", RATE)
    manifest = scan(tmp_path / "out")
    assert manifest.seconds == pytest.approx(60.0)
    places = [float(original(r.path)[0].mean()) for r in manifest.recordings]
    assert places == sorted(places)
    assert places[0] < 0.05
    assert places[-1] > 0.95
    # No more is read than is needed, however long the recording is.
    assert sum(frames for frames in read[:3]) == 60 * RATE


def test_excerpts_do_not_overlap(tmp_path):
    write(tmp_path / "in" / "a.wav", np.linspace(0.0, 1.0, 30 * RATE, dtype=np.float32))
    write(tmp_path / "in" / "b.wav", np.linspace(0.0, 1.0, 190 * RATE, dtype=np.float32))
    take_excerpts(tmp_path / "in", tmp_path / "out", RATE)
    manifest = scan(tmp_path / "out")
    assert manifest.seconds == pytest.approx(220.0, abs=0.1)
    ramps = [audio.read(recording.path)[0][0] for recording in manifest.recordings]
    for one, other in itertools.pairwise(ramps):
        assert other[0] >= one[-1] or other[0] == 0.0


def test_short_recordings_still_give_several_excerpts(tmp_path):
    rng = np.random.default_rng(5)
    write(tmp_path / "in" / "a.wav", tone(20.0, 150, rng))
    write(tmp_path / "in" / "b.wav", tone(15.0, 150, rng, 44100), 44100)
    take_excerpts(tmp_path / "in", tmp_path / "out", RATE)
    recordings = scan(tmp_path / "out").recordings
    assert len(recordings) >= 6
    assert {(r.sample_rate, r.channels) for r in recordings} == {(RATE, 1)}
    # Again: what is there is kept.
    before = {path: path.stat().st_mtime_ns for path in audio.find_audio(tmp_path / "out")}
    take_excerpts(tmp_path / "in", tmp_path / "out", RATE)
    assert before == {path: path.stat().st_mtime_ns for path in audio.find_audio(tmp_path / "out")}


def test_the_quarters_of_one_recording_and_the_files_of_several_are_groups(tmp_path):
    rng = np.random.default_rng(5)
    write(tmp_path / "one" / "a.wav", tone(80.0, 150, rng))
    take_excerpts(tmp_path / "one" / "a.wav", tmp_path / "quarters", RATE)
    assert scan(tmp_path / "quarters").groups == tuple(f"quarter_{index}" for index in range(4))
    write(tmp_path / "one" / "b.wav", tone(40.0, 150, rng))
    take_excerpts(tmp_path / "one", tmp_path / "files", RATE)
    assert scan(tmp_path / "files").groups == ("0000", "0001")


def test_excerpts_of_other_recordings_are_refused(tmp_path):
    rng = np.random.default_rng(5)
    write(tmp_path / "in" / "a.wav", tone(40.0, 150, rng))
    take_excerpts(tmp_path / "in", tmp_path / "in" / "out", RATE)
    take_excerpts(tmp_path / "in", tmp_path / "in" / "out", RATE)  # its own excerpts are no recordings of the place
    write(tmp_path / "in" / "b.wav", tone(40.0, 150, rng))
    with pytest.raises(DataError, match="excerpts of other recordings"):
        take_excerpts(tmp_path / "in", tmp_path / "in" / "out", RATE)


def test_many_short_recordings_fill_the_time(tmp_path, monkeypatch):
    monkeypatch.setattr(place_module, "MAX_SECONDS", 35.0)
    for number in range(60):
        write(tmp_path / "in" / f"{number:02d}.wav", np.full(RATE, 0.1, np.float32))
    take_excerpts(tmp_path / "in", tmp_path / "out", RATE)
    assert scan(tmp_path / "out").seconds == pytest.approx(35.0)


def test_too_little_and_nothing(tmp_path):
    write(tmp_path / "a.wav", tone(3.0, 150, np.random.default_rng(6)))
    with pytest.raises(DataError, match=f"found 3.0 s of recordings.* at least {MIN_SECONDS:g} s"):
        take_excerpts(tmp_path, tmp_path / "out", RATE)
    with pytest.raises(AudioError, match="expected a folder with recordings"):
        take_excerpts(tmp_path / "nowhere", tmp_path / "out", RATE)
    (tmp_path / "empty.wav").touch()
    with pytest.raises(DataError, match=r"^\S+empty.wav is empty \(0 bytes\), expected a sound file"):
        take_excerpts(tmp_path / "empty.wav", tmp_path / "out", RATE)


def test_silence_alone_is_refused_and_leaves_nothing(tmp_path):
    write(tmp_path / "in" / "a.wav", np.zeros(40 * RATE, np.float32))
    with pytest.raises(DataError, match="nothing but silence"):
        take_excerpts(tmp_path / "in", tmp_path / "out", RATE)
    assert not (tmp_path / "out").exists()


def test_refused_silence_takes_nothing_else_along(tmp_path):
    write(tmp_path / "in" / "a.wav", np.zeros(40 * RATE, np.float32))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "diary.txt").write_text("mine")
    with pytest.raises(DataError, match="nothing but silence"):
        take_excerpts(tmp_path / "in", tmp_path / "out", RATE)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["diary.txt"]


def test_a_damaged_recording_is_left_out(tmp_path, caplog):
    write(tmp_path / "in" / "a.wav", tone(40.0, 150, np.random.default_rng(7)))
    (tmp_path / "in" / "b.wav").write_bytes(b"RIFF but no more")
    take_excerpts(tmp_path / "in", tmp_path / "out", RATE)
    assert "b.wav" in caplog.text
    assert scan(tmp_path / "out").seconds == pytest.approx(40.0, abs=0.01)
