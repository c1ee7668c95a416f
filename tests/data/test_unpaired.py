"""What a training step draws: a function of seed and step, with speech and recordings independent of each other."""

import numpy as np
import pytest

from sottovoce.config import DataSettings
from sottovoce.data import unpaired
from sottovoce.data.harvest import NoiseStretch
from sottovoce.data.manifest import scan
from sottovoce.data.rooms import Room, direct_sample
from sottovoce.data.unpaired import PURPOSES, UnpairedClips, played
from sottovoce.signal.audio import read
from sottovoce.signal.levels import active_speech_db, rms_db

from ..systems import changed
from .synthetic import RATE, tone, write

SETTINGS = {
    "clip_seconds": 1.5,
    "speech_clips": 3,
    "mixture_clips": 3,
    "noise_clips": 2,
    "simulated_clips": 3,
    "simulation": {"snr_db": (0.0, 10.0), "room": {"share": 0.0}},
}


def recordings(folder, seed, seconds=4.0):
    """Noisy recordings whose last second is noise alone."""
    rng = np.random.default_rng(seed)
    for number in range(3):
        waveform = tone(seconds, rng.uniform(100, 250), rng)
        waveform[-RATE:] = 0
        write(folder / f"{number}.wav", waveform + (0.02 * rng.standard_normal(waveform.size)).astype(np.float32))
    manifest = scan(folder)
    return manifest, [NoiseStretch(r, r.frames - RATE, RATE) for r in manifest.recordings]


@pytest.fixture
def speech(speech_folder):
    return scan(speech_folder)


@pytest.fixture
def mixtures(tmp_path):
    return recordings(tmp_path / "mixtures", 10)


def drawn(speech, mixtures, *, seed=1, rooms=(), simulation=None, **changes):
    manifest, stretches = mixtures
    return UnpairedClips(
        speech,
        manifest,
        stretches,
        rooms=rooms,
        settings=DataSettings(**changed(SETTINGS, {**changes, "simulation": simulation or {}})),
        sample_rate=RATE,
        seed=seed,
    )


def same(one, other):
    return [np.array_equal(a, b) for a, b in zip(one, other, strict=True)]


@pytest.mark.parametrize("purpose", PURPOSES)
def test_seed_purpose_and_step_tell_everything(speech, mixtures, purpose):
    first = drawn(speech, mixtures).batch(7, purpose)
    assert all(same(first, drawn(speech, mixtures).batch(7, purpose)))
    for other in (
        drawn(speech, mixtures).batch(8, purpose),
        drawn(speech, mixtures, seed=2).batch(7, purpose),
    ):
        assert not any(same(first, other)[part] for part in range(len(first)) if first[part].size)
    assert all(clips.dtype == np.float32 and clips.shape[1] == 1.5 * RATE for clips in first)
    counts = {"speech": (3, 0, 0, 0, 0, 0), "joint": (0, 3, 2, 3, 3, 3), "check": (3, 3, 2, 3, 3, 3)}
    assert tuple(map(len, first)) == counts[purpose]


def test_batches_do_not_depend_on_those_before(speech, mixtures):
    clips = drawn(speech, mixtures)
    wanted = clips.batch(3, "check")
    clips.batch(0, "joint")
    assert all(same(wanted, clips.batch(3, "check")))


def test_other_recordings_leave_the_speech_alone(tmp_path, speech, mixtures):
    other = recordings(tmp_path / "other", 11, seconds=2.5)
    one, two = (drawn(speech, each).batch(5, "check") for each in (mixtures, other))
    assert np.array_equal(one.speech, two.speech)
    assert not np.array_equal(one.mixtures, two.mixtures)


def test_other_speech_leaves_the_recordings_alone(tmp_path, speech, mixtures):
    write(tmp_path / "other" / "dora" / "0.wav", tone(3.0, 180, np.random.default_rng(5)))
    one, two = (drawn(each, mixtures).batch(5, "check") for each in (speech, scan(tmp_path / "other")))
    assert not np.array_equal(one.speech, two.speech)
    assert np.array_equal(one.mixtures, two.mixtures)
    assert np.array_equal(one.noise, two.noise)


def test_what_is_chosen_is_unpaired(tmp_path):
    """Every recording is a level of its own, so that its clips identify it: the two choices share no information."""
    kinds, steps = 4, 1500
    for folder in ("speech", "mixtures"):
        for kind in range(kinds):
            write(tmp_path / folder / str(kind) / "0.wav", np.full(RATE, 0.1 * (kind + 1), np.float32))
    clips = drawn(
        scan(tmp_path / "speech"),
        (scan(tmp_path / "mixtures"), []),
        clip_seconds=0.25,
        speech_clips=1,
        mixture_clips=1,
        noise_clips=0,
        simulated_clips=0,
    )
    # The level of clips is drawn as well: it is held here, so that the level identifies the recording.
    clips._at_level = lambda clip, rng: clip
    chosen = [clips.batch(step, "check") for step in range(steps)]
    pairs = np.array([[round(float(batch[part].max()) * 10) - 1 for part in (0, 1)] for batch in chosen])

    def information(speech, mixtures):
        joint = np.zeros((kinds, kinds))
        np.add.at(joint, (speech, mixtures), 1 / steps)
        independent = np.outer(joint.sum(1), joint.sum(0))
        return float((joint[joint > 0] * np.log(joint[joint > 0] / independent[joint > 0])).sum())

    assert np.all(np.bincount(pairs[:, 0]) > steps / kinds / 2)
    assert np.all(np.bincount(pairs[:, 1]) > steps / kinds / 2)
    rng = np.random.default_rng(0)
    by_chance = [information(pairs[:, 0], rng.permutation(pairs[:, 1])) for _ in range(200)]
    assert information(*pairs.T) <= np.max(by_chance)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(speech, mixtures, workers):
    torch = pytest.importorskip("torch")
    from sottovoce.training.module import loader

    clips = drawn(speech, mixtures)
    alone, helped = (list(loader(clips, "joint", 3, 8, count)) for count in (0, workers))
    assert len(alone) == len(helped) == 5
    for one, other in zip(alone, helped, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    # A resumed training goes on in the middle.
    resumed = next(iter(loader(clips, "joint", 5, 8, workers)))
    assert all(torch.equal(a, b) for a, b in zip(alone[2], resumed, strict=True))


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


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 15.0])
def test_simulated_mixtures_have_the_ratio_and_the_target_in_place(speech, mixtures, snr_db):
    simulation = {"snr_db": (snr_db, snr_db), "random_filter": 0.0}
    batch = drawn(speech, mixtures, simulated_clips=6, simulation=simulation).batch(2, "joint")
    for mixture, target in zip(batch.simulated_mixtures, batch.simulated_targets, strict=True):
        residual = mixture.astype(np.float64) - target
        assert active_speech_db(target, RATE) - rms_db(residual) == pytest.approx(snr_db, abs=0.05)
        # What is left is the white noise of the recordings: nothing of the speech, no shift of it.
        assert abs(np.corrcoef(residual, target)[0, 1]) < 0.05
        spectrum = np.abs(np.fft.rfft(residual)) ** 2
        spectrum = spectrum[: int(0.85 * spectrum.size)]  # one voice was recorded at another rate: no noise above it
        quarters = [part.mean() for part in np.array_split(spectrum, 4)]
        assert max(quarters) < 1.5 * min(quarters)
        assert -45.1 < rms_db(mixture) < -14.9


def test_simulated_mixtures_in_a_room(speech, mixtures):
    """A room with one late echo: it is in the mixture, not in the target."""
    response = np.zeros(RATE // 2, np.float32)
    delay = direct_sample(RATE)
    response[delay], late = 1.0, 3000
    response[delay + late] = 0.5
    settings = {"snr_db": (40.0, 40.0), "random_filter": 0.0}
    dry = drawn(speech, mixtures, simulation=settings).batch(0, "joint")
    in_room = settings | {"room": {"share": 1.0}}
    wet = drawn(speech, mixtures, rooms=[Room(response, RATE)], simulation=in_room).batch(0, "joint")
    rows = (dry.simulated_targets, wet.simulated_mixtures, wet.simulated_targets, wet.simulated_reverberant)
    for one, mixture, target, reverberant in zip(*rows, strict=True):
        assert np.corrcoef(one, target)[0, 1] > 0.999
        assert rms_db(mixture - reverberant) < rms_db(reverberant) - 30
        echo = np.concatenate([np.zeros(late, np.float32), 0.5 * target[:-late]])
        assert rms_db(mixture - target - echo) < rms_db(target) - 30


def test_what_is_removed_stays_in_the_target_as_far_down_as_wanted(speech, mixtures):
    settings = {"snr_db": (0.0, 0.0), "random_filter": 0.0}
    wholly = drawn(speech, mixtures, simulation=settings).batch(0, "joint")
    partly = drawn(speech, mixtures, simulation=settings | {"attenuation_db": 20.0}).batch(0, "joint")
    np.testing.assert_array_equal(wholly.simulated_mixtures, partly.simulated_mixtures)
    removed = wholly.simulated_mixtures - wholly.simulated_targets
    np.testing.assert_allclose(partly.simulated_targets, wholly.simulated_targets + 0.1 * removed, atol=1e-6)


def test_noise_goes_on_in_a_pause_and_its_target_is_silent(tmp_path, mixtures, monkeypatch):
    rng = np.random.default_rng(0)
    words = np.where(np.arange(6 * RATE) // (RATE // 2) % 2, tone(6.0, 150, rng), 0.0)
    write(tmp_path / "words" / "ann" / "0.wav", words.astype(np.float32))
    # Pauses that are longer than a clip begin it: nobody speaks in the first 0.3 s.
    monkeypatch.setattr(unpaired, "_PAUSE_SECONDS", (5.0, 10.0))
    simulation = {"snr_db": (10.0, 10.0), "random_filter": 0.0, "speech": {"pause_share": 1.0}}
    clips = drawn(scan(tmp_path / "words"), mixtures, simulated_clips=4, clip_seconds=3.0, simulation=simulation)
    batch = clips.batch(0, "joint")
    for mixture, target in zip(batch.simulated_mixtures, batch.simulated_targets, strict=True):
        lead_in = slice(0, round(0.3 * RATE))
        assert not target[lead_in].any()
        assert target.any()
        assert rms_db(mixture[lead_in]) == pytest.approx(rms_db(mixture - target), abs=0.5)


def test_a_share_is_in_quiet_places(speech, mixtures):
    simulation = {"snr_db": (0.0, 5.0), "quiet_share": 1.0}
    batch = drawn(speech, mixtures, simulated_clips=24, simulation=simulation).batch(0, "joint")
    ratios = []
    for mixture, target in zip(batch.simulated_mixtures, batch.simulated_targets, strict=True):
        noise = mixture - target
        ratios.append(active_speech_db(target, RATE) - rms_db(noise) if noise.any() else np.inf)
    assert min(ratios) > 4.9
    assert np.isinf(ratios).any()  # after a gate
    assert 30 < max(ratio for ratio in ratios if np.isfinite(ratio)) < 50.1


def test_colour_changes_the_mixture_and_its_target_alike(speech, mixtures):
    plain, coloured = (
        drawn(speech, mixtures, simulation={"random_filter": colour, "snr_db": (60.0, 60.0)}).batch(0, "joint")
        for colour in (0.0, 0.375)
    )
    assert not np.allclose(plain.simulated_targets, coloured.simulated_targets, atol=1e-3)
    for mixture, target in zip(coloured.simulated_mixtures, coloured.simulated_targets, strict=True):
        assert rms_db(mixture - target) < rms_db(target) - 50


@pytest.mark.parametrize("speed", [0.8, 1.25])
def test_speed_moves_the_pitch_of_simulated_mixtures_alone(tmp_path, mixtures, speed):
    time = np.arange(4 * RATE) / RATE
    write(tmp_path / "hum" / "0.wav", (0.1 * np.sin(2 * np.pi * 440 * time)).astype(np.float32))
    hum = scan(tmp_path / "hum")

    def pitch_hz(clips):
        spectrum = np.abs(np.fft.rfft(clips * np.hanning(clips.shape[1]), axis=1))
        return spectrum.argmax(axis=1) * RATE / clips.shape[1]

    clips = drawn(hum, mixtures, simulation={"speech": {"speed": (speed, speed)}, "random_filter": 0.0})
    np.testing.assert_allclose(pitch_hz(clips.batch(0, "joint").simulated_targets), 440 * speed, atol=2.0)
    np.testing.assert_allclose(pitch_hz(clips.batch(0, "speech").speech), 440, atol=2.0)


def test_speed_moves_the_spectrum_of_their_noise(tmp_path, speech):
    time = np.arange(4 * RATE) / RATE
    write(tmp_path / "hum" / "0.wav", (0.1 * np.sin(2 * np.pi * 1000 * time)).astype(np.float32))
    manifest = scan(tmp_path / "hum")
    hum = manifest, [NoiseStretch(r, 0, r.frames) for r in manifest.recordings]
    settings = {"snr_db": (0.0, 0.0), "random_filter": 0.0, "noise": {"speed": (1.25, 1.25)}}
    batch = drawn(speech, hum, simulation=settings).batch(0, "joint")
    residual = batch.simulated_mixtures - batch.simulated_targets
    peaks_hz = np.abs(np.fft.rfft(residual, axis=1)).argmax(axis=1) * RATE / residual.shape[1]
    np.testing.assert_allclose(peaks_hz, 1250, atol=2.0)


def powers_db(clips, *bands_hz):
    """Mean power of a clip's bins in each band, in dB."""
    power = np.square(np.abs(np.fft.rfft(clips * np.hanning(clips.shape[-1]))))
    hz = np.fft.rfftfreq(clips.shape[-1], 1 / RATE)
    return [10 * np.log10(power[..., (low <= hz) & (hz < high)].mean() + 1e-20) for low, high in bands_hz]


@pytest.mark.parametrize("speed", [1.0, 1.03, 1.25, 2.0])
def test_what_is_played_faster_reaches_as_high_as_what_is_not(speed):
    # A slope below half the rate would set speed-perturbed voices apart from noise that was not.
    clip = played(
        lambda samples, rng: rng.standard_normal(samples).astype(np.float32), RATE, speed, np.random.default_rng(1)
    )
    assert clip.shape == (RATE,)
    assert clip.dtype == np.float32
    np.testing.assert_allclose(powers_db(clip, (7900, 8001)), powers_db(clip, (100, 7900)), atol=1.5)
    assert rms_db(clip) == pytest.approx(-10 * np.log10(speed), abs=0.25)  # what would be higher is lost


def test_above_a_slower_voice_there_is_no_noise_either(speech, mixtures):
    slower = {"speech": {"speed": (0.8, 0.8)}, "noise": {"synthetic_share": 1.0}}
    batch = drawn(speech, mixtures, simulation=slower).batch(0, "joint")
    for clips in (batch.simulated_mixtures, batch.simulated_targets, batch.simulated_reverberant):
        below, above = powers_db(clips, (100, 5700), (6500, 8001))
        assert above < below - 60


@pytest.mark.parametrize(("rate", "highest_hz"), [(8000, 4000), (44100, 8000), (48000, 8000)])
def test_what_resampling_took_from_a_voice_is_not_left_to_noise(tmp_path, mixtures, rate, highest_hz):
    white = 0.05 * np.random.default_rng(3).standard_normal(4 * rate).astype(np.float32)
    write(tmp_path / "voices" / "0.wav", white, rate)
    simulation = {"random_filter": 0.0, "noise": {"synthetic_share": 1.0}}
    batch = drawn(scan(tmp_path / "voices"), mixtures, simulation=simulation).batch(0, "joint")
    residual = batch.simulated_mixtures - batch.simulated_targets
    for clips in (batch.simulated_targets, residual):
        below, above = powers_db(clips, (100, 0.85 * highest_hz), (0.96 * highest_hz, 8001))
        assert above < below - 40


def test_a_voice_does_not_reach_higher_than_the_recordings_that_its_noise_is_from(tmp_path):
    rng = np.random.default_rng(4)
    write(tmp_path / "voices" / "0.wav", 0.05 * rng.standard_normal(4 * RATE).astype(np.float32))
    write(tmp_path / "place" / "0.wav", 0.05 * rng.standard_normal(4 * 48000).astype(np.float32), 48000)
    place = scan(tmp_path / "place")
    stretches = [NoiseStretch(r, 0, r.frames) for r in place.recordings]
    for noise in (stretches, []):  # of pauses; and what is steady in recordings that have none
        batch = drawn(scan(tmp_path / "voices"), (place, noise), simulation={"random_filter": 0.0}).batch(0, "joint")
        for clips in (batch.simulated_targets, batch.simulated_mixtures - batch.simulated_targets):
            below, above = powers_db(clips, (100, 6500), (7700, 8001))
            assert above < below - 40


def noises(speech, mixtures, **noise):
    """What is added to the speech of simulated mixtures."""
    simulation = {"snr_db": (0.0, 0.0), "random_filter": 0.0, "noise": noise}
    batch = drawn(speech, mixtures, simulated_clips=8, simulation=simulation).batch(0, "joint")
    return batch.simulated_mixtures - batch.simulated_targets


def unit(clips):
    return clips / np.sqrt(np.mean(np.square(clips), axis=1, keepdims=True))


def test_noise_is_played_backwards(speech, mixtures):
    forwards, backwards = (noises(speech, mixtures, reversed_share=share) for share in (0.0, 1.0))
    np.testing.assert_allclose(unit(backwards), unit(forwards)[:, ::-1], atol=1e-3)


def test_the_level_of_noise_rises_and_falls(speech, mixtures):
    steady, swelling = (noises(speech, mixtures, swelling_share=share) for share in (0.0, 1.0))

    def spread_db(clips):
        frames = clips[:, : clips.shape[1] // 400 * 400].reshape(clips.shape[0], -1, 400)
        return np.std(10 * np.log10(np.mean(np.square(frames), axis=2) + 1e-12), axis=1)

    assert np.all(spread_db(swelling) > spread_db(steady))
    assert np.median(spread_db(swelling)) > 2.0 > np.median(spread_db(steady))


def test_babble_is_of_the_clean_speech(tmp_path, mixtures):
    for pitch_hz in (150, 210):
        folder = tmp_path / "hum" / str(pitch_hz)
        time = np.arange(3 * RATE) / RATE
        write(folder / "0.wav", (0.1 * np.sin(2 * np.pi * pitch_hz * time)).astype(np.float32))
    residual = noises(scan(tmp_path / "hum"), mixtures, babble_share=1.0)
    power = np.square(np.abs(np.fft.rfft(residual * np.hanning(residual.shape[1]), axis=1)))
    hz = np.fft.rfftfreq(residual.shape[1], 1 / RATE)
    near = (np.abs(hz - 150) < 4) | (np.abs(hz - 210) < 4)
    assert np.all(power[:, near].sum(axis=1) > 0.99 * power.sum(axis=1))


def test_a_share_of_the_noise_is_made(speech, mixtures):
    plain, made, both = (noises(speech, mixtures, synthetic_share=share) for share in (0.0, 1.0, 0.5))
    # The recordings' noise is white; a made one has a colour.
    slopes = [
        [np.log(quarter.mean()) for quarter in np.array_split(np.abs(np.fft.rfft(clip)) ** 2, 4)] for clip in made
    ]
    assert np.median(np.ptp(slopes, axis=1)) > 1.0
    assert not np.allclose(plain, made)
    assert np.isfinite(both).all()


def test_band_limited_pairs_have_no_highs(speech, mixtures):
    batch = drawn(speech, mixtures, simulation={"band_limited_share": 1.0}).batch(0, "joint")
    for clips in (batch.simulated_mixtures, batch.simulated_targets):
        power = np.square(np.abs(np.fft.rfft(clips * np.hanning(clips.shape[1]), axis=1)))
        hz = np.fft.rfftfreq(clips.shape[1], 1 / RATE)
        assert np.all(power[:, hz > 7600].sum(axis=1) < 1e-8 * power.sum(axis=1))
        assert np.all(power[:, hz < 2500].sum(axis=1) > 0)


def test_a_second_noise_is_weaker_and_keeps_the_ratio(speech, mixtures):
    one, two = (noises(speech, mixtures, second_share=share) for share in (0.0, 1.0))
    simulation = {"snr_db": (3.0, 3.0), "random_filter": 0.0, "noise": {"second_share": 1.0}}
    batch = drawn(speech, mixtures, simulation=simulation).batch(0, "joint")
    for mixture, target in zip(batch.simulated_mixtures, batch.simulated_targets, strict=True):
        assert active_speech_db(target, RATE) - rms_db(mixture - target) == pytest.approx(3.0, abs=0.05)
    assert not np.allclose(one, two)


def test_silence_has_no_ratio_and_is_no_error(tmp_path, speech):
    waveform = np.zeros(3 * RATE, np.float32)
    waveform[:RATE] = tone(1.0, 120, np.random.default_rng(0))
    write(tmp_path / "gated" / "0.wav", waveform)
    manifest = scan(tmp_path / "gated")
    gated = [NoiseStretch(manifest.recordings[0], 3 * RATE // 2, RATE)]
    batch = drawn(speech, (manifest, gated)).batch(0, "check")
    assert all(np.isfinite(part).all() for part in batch)
    assert not batch.noise.any()
    np.testing.assert_array_equal(batch.simulated_mixtures, batch.simulated_targets)


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
