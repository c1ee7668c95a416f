"""Simulated mixtures: ratio, target and room, and what varies speech and noise."""

import numpy as np
import pytest

from sottovoce.data.corpora.harvest import NoiseStretch
from sottovoce.data.corpora.manifest import scan
from sottovoce.data.simulation import simulator
from sottovoce.data.simulation.rooms import Room, direct_sample
from sottovoce.signal.levels import active_speech_db, rms_db

from ..drawn import drawn, powers_db
from ..synthetic import RATE, tone, write


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


def test_targets_keep_as_much_of_the_room_as_they_say(speech, mixtures):
    response = np.zeros(RATE // 2, np.float32)
    delay = direct_sample(RATE)
    echoes = {0: 1.0, 300: 0.5, 3000: 0.5}  # the direct sound, an early echo and a late one
    for after, size in echoes.items():
        response[delay + after] = size
    kept = {(0, 0): (0, 300), (1, 0): (0, 300, 3000), (0, 1): (0,)}
    settings = {"snr_db": (60.0, 60.0), "random_filter": 0.0}
    dry = drawn(speech, mixtures, simulated_clips=12, simulation=settings).batch(0, "joint").simulated_targets
    room = {"share": 1.0, "keep_share": 0.4, "dry_share": 0.4}
    clips = drawn(
        speech, mixtures, simulated_clips=12, rooms=[Room(response, RATE)], simulation=settings | {"room": room}
    )
    batch = clips.batch(0, "joint")
    assert {tuple(one) for one in batch.simulated_rooms.tolist()} == kept.keys()
    for one, target, choice in zip(dry, batch.simulated_targets, batch.simulated_rooms.tolist(), strict=True):
        wanted = sum(echoes[after] * np.pad(one, (after, 0))[: one.size] for after in kept[tuple(choice)])
        assert np.corrcoef(wanted, target)[0, 1] > 0.999


def test_without_shares_the_choice_of_the_room_draws_nothing(speech, mixtures):
    plain, chosen = (
        drawn(speech, mixtures, simulation={"room": room}).batch(0, "joint")
        for room in ({}, {"keep_share": 0.0, "dry_share": 0.0})
    )
    np.testing.assert_array_equal(plain.simulated_mixtures, chosen.simulated_mixtures)
    assert not plain.simulated_rooms.any()


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
    monkeypatch.setattr(simulator, "_PAUSE_SECONDS", (5.0, 10.0))
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


def test_a_crowd_is_steadier_than_babble(speech, mixtures):
    babble, crowd = (
        noises(speech, mixtures, babble_share=1.0, crowd_share=share, speed=(1.0, 1.0)) for share in (0.0, 1.0)
    )
    assert not np.allclose(babble, crowd)

    def spread_db(clips):
        frames = clips[:, : clips.shape[1] // 400 * 400].reshape(clips.shape[0], -1, 400)
        return np.median(np.std(10 * np.log10(np.mean(np.square(frames), axis=2) + 1e-12), axis=1))

    assert spread_db(crowd) < spread_db(babble)


def test_made_noise_may_be_modelled_on_a_source(speech, mixtures):
    shapes, sources = (noises(speech, mixtures, synthetic_share=1.0, source_share=share) for share in (0.0, 1.0))
    assert np.isfinite(sources).all()
    assert not np.allclose(shapes, sources)


def test_far_speech_has_more_reverberation(speech, mixtures):
    rng = np.random.default_rng(1)
    response = 0.05 * (rng.standard_normal(RATE // 2) * np.exp(-np.arange(RATE // 2) / 1000)).astype(np.float32)
    response[: direct_sample(RATE) + RATE // 1000] = 0.0
    response[direct_sample(RATE)] = 1.0
    room = Room(response, RATE)
    settings = {"snr_db": (60.0, 60.0), "random_filter": 0.0}

    def reflected_db(far_share):
        simulation = settings | {"room": {"share": 1.0, "far_share": far_share, "early_ms": 1.0}}
        batch = drawn(speech, mixtures, rooms=[room], simulated_clips=6, simulation=simulation).batch(0, "joint")
        pairs = zip(batch.simulated_reverberant, batch.simulated_targets, strict=True)
        return np.array([rms_db(reverberant - direct) - rms_db(direct) for reverberant, direct in pairs])

    change = reflected_db(1.0) - reflected_db(0.0)
    assert change.min() > -0.1
    assert 3 < change.mean() < change.max() < 12.1


def test_effort_changes_the_speech_and_not_the_noise(speech, mixtures):
    simulation = {"snr_db": (0.0, 0.0), "random_filter": 0.0}
    plain, changed = (
        drawn(speech, mixtures, simulated_clips=1, simulation=simulation | {"speech": {"effort_share": share}}).batch(
            0, "joint"
        )
        for share in (0.0, 1.0)
    )
    assert not np.allclose(unit(plain.simulated_targets), unit(changed.simulated_targets), atol=0.1)
    noise = [unit(batch.simulated_mixtures - batch.simulated_reverberant) for batch in (plain, changed)]
    np.testing.assert_allclose(*noise, atol=1e-2)
