import csv
import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.data.corpora.manifest import Manifest, scan
from sottovoce.data.simulation.mixtures import TABLE, excerpt, join_utterances, make_mixtures, mix
from sottovoce.data.simulation.rooms import simulate_room
from sottovoce.errors import AudioError, DataError
from sottovoce.signal.audio import find_audio, read
from sottovoce.signal.levels import active_speech_db, rms_db

from ..synthetic import RATE, tone, write


@pytest.fixture
def corpora(speech_folder, noise_folder):
    return scan(speech_folder), scan(noise_folder)


@given(st.floats(-20, 30), st.floats(-40, 0), st.integers(0, 100))
def test_the_ratio_is_what_was_asked(snr_db, level_db, seed):
    rng = np.random.default_rng(seed)
    speech, noise = tone(1.0, 150, rng), 0.1 * rng.standard_normal(RATE)
    mixed = mix(speech, noise, snr_db, RATE, level_db=level_db)
    noise_part = mixed.noisy.astype(np.float64) - mixed.clean
    assert active_speech_db(mixed.clean, RATE) - rms_db(noise_part) == pytest.approx(snr_db, abs=0.05)
    assert np.abs(mixed.noisy).max() <= 0.99
    assert active_speech_db(mixed.clean, RATE) <= level_db + 0.01
    np.testing.assert_allclose(mixed.clean, mixed.speech_gain * speech, atol=1e-6)
    np.testing.assert_allclose(noise_part, mixed.noise_gain * noise, atol=1e-6)


@pytest.mark.parametrize("target", ["dry", "early"])
def test_in_a_room_the_ratio_is_that_of_the_speech_at_the_microphone(target):
    rng = np.random.default_rng(1)
    speech, noise = tone(2.0, 150, rng), 0.1 * rng.standard_normal(2 * RATE)
    room = simulate_room(rng, RATE, (0.3, 0.4))
    mixed = mix(speech, noise, 3.0, RATE, room=room, target=target)
    at_microphone = mixed.noisy - mixed.noise_gain * noise
    np.testing.assert_allclose(at_microphone, mixed.speech_gain * room.apply(speech), atol=1e-5)
    assert active_speech_db(at_microphone, RATE) - rms_db(mixed.noise_gain * noise) == pytest.approx(3.0, abs=0.05)
    expected = speech if target == "dry" else room.apply_early(speech)
    np.testing.assert_allclose(mixed.clean, mixed.speech_gain * expected, atol=1e-5)


@given(st.integers(1, 60), st.integers(0, 10))
def test_excerpts_have_the_length(tenths, seed):
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(RATE).astype(np.float32)
    length = tenths * RATE // 10
    part, start = excerpt(noise, length, RATE, rng)
    assert part.shape == (length,)
    assert 0 <= start < RATE
    assert rms_db(part) == pytest.approx(0, abs=1)
    if length <= RATE:
        np.testing.assert_array_equal(part, noise[start : start + length])


def test_a_loop_has_no_seam():
    sine = np.sin(2 * np.pi * 100 * np.arange(RATE) / RATE).astype(np.float32)
    part, _ = excerpt(sine, 5 * RATE, RATE, np.random.default_rng(0))
    assert np.abs(np.diff(part)).max() < 1.5 * np.abs(np.diff(sine)).max()


def test_excerpts_avoid_silence():
    noise = np.zeros(20 * RATE, np.float32)
    noise[: 4 * RATE] = np.random.default_rng(0).standard_normal(4 * RATE)
    levels_db = [rms_db(excerpt(noise, RATE, RATE, np.random.default_rng(seed))[0]) for seed in range(30)]
    assert np.mean(np.array(levels_db) > -20) > 0.9


def test_a_conversation_has_pauses():
    rng = np.random.default_rng(0)
    utterances = [tone(2.0, hz, rng) * gain for hz, gain in ((120, 1.0), (150, 0.1))]
    joined = join_utterances(utterances, 60 * RATE, RATE, rng)
    assert joined.shape == (60 * RATE,)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], joined == 0, [0]])))
    pauses_seconds = np.diff(edges)[::2] / RATE
    pauses_seconds = pauses_seconds[pauses_seconds > 0.15]
    assert len(pauses_seconds) > 10
    assert pauses_seconds.max() <= 5
    assert 0.4 < np.median(pauses_seconds) < 2
    assert active_speech_db(joined, RATE) == pytest.approx(-26, abs=1)


@given(st.integers(0, 200))
def test_a_short_conversation_is_not_only_pause(seed):
    rng = np.random.default_rng(seed)
    assert np.count_nonzero(join_utterances([tone(1.0, 120, rng)], 2 * RATE, RATE, rng)) > 0.1 * RATE


def test_a_folder_of_mixtures(tmp_path, corpora):
    seen = []
    rows = make_mixtures(
        *corpora, tmp_path / "out", count=6, snr_db=(0, 5), seed=1, progress=lambda *done: seen.append(done)
    )
    assert seen[-1] == (6, 6)
    with (tmp_path / "out" / TABLE).open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["file"] for row in table] == [f"{index}.flac" for index in range(6)]
    assert [row.snr_db for row in rows] == [0, 5] * 3
    assert sorted(row.speaker for row in rows) == ["anna", "anna", "bert", "bert", "carl", "carl"]
    assert sum("drops" in row.noise for row in rows) == 3
    for row in table:
        noisy, rate = read(tmp_path / "out" / "noisy" / row["file"])
        clean, _ = read(tmp_path / "out" / "clean" / row["file"])
        assert rate == RATE
        assert noisy.shape == clean.shape == (1, round(float(row["seconds"]) * RATE))
        ratio_db = active_speech_db(clean[0], RATE) - rms_db(noisy - clean)
        assert ratio_db == pytest.approx(float(row["snr_db"]), abs=0.1)
        content = (tmp_path / "out" / "noisy" / row["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == row["noisy_sha256"]


def test_same_seed_same_bytes(tmp_path, corpora):
    arguments = {"count": 3, "snr_db": (0,), "room_share": 0.5, "t60_range_seconds": (0.2, 0.3), "seconds": 2.0}
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        make_mixtures(*corpora, tmp_path / name, seed=seed, **arguments)
    one, same, other = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
        for name in ("one", "same", "other")
    )
    assert one == same
    assert not set(one.values()) & set(other.values())


def test_measured_rooms(tmp_path, corpora):
    response = simulate_room(np.random.default_rng(0), RATE, (0.3, 0.4)).response
    write(tmp_path / "rooms" / "hall.wav", response / 8)
    rows = make_mixtures(
        *corpora,
        tmp_path / "out",
        count=4,
        snr_db=(0,),
        seed=0,
        responses=find_audio(tmp_path / "rooms"),
        room_share=0.5,
    )
    assert sorted(bool(row.room) for row in rows) == [False, False, True, True]
    assert {row.room for row in rows} == {"", str(tmp_path / "rooms" / "hall.wav")}


def test_the_speaker_begins_after_the_lead_in(tmp_path, corpora):
    lead_in = {"lead_in_seconds": (0.5, 1.0), "count": 6, "snr_db": (10,), "seed": 3}
    for name, seconds in (("whole", None), ("cut", 2.5)):
        rows = make_mixtures(*corpora, tmp_path / name, seconds=seconds, **lead_in)
        for row in rows:
            clean, noisy = (read(tmp_path / name / side / row.file)[0][0] for side in ("clean", "noisy"))
            assert seconds is None or clean.size == round(seconds * RATE)
            assert not clean[: RATE // 2].any()
            assert rms_db(noisy[: RATE // 2]) > -80
            assert clean.any()


@pytest.mark.parametrize("lead_in_seconds", [(-1.0, 0.0), (1.0, 0.5), (0.0, 2.0)])
def test_lead_ins_that_leave_nothing_are_reported(tmp_path, corpora, lead_in_seconds):
    with pytest.raises(DataError, match="lead-in"):
        make_mixtures(
            *corpora,
            tmp_path / "out",
            count=1,
            snr_db=(0,),
            seed=0,
            seconds=2.0,
            lead_in_seconds=lead_in_seconds,
        )


@pytest.mark.parametrize("part", [(0.0, 0.75), (0.75, 1.0)])
def test_excerpts_come_from_a_part_of_the_noise(tmp_path, speech_folder, noise_folder, part):
    speech, noise = scan(speech_folder), scan(noise_folder / "rain")
    rows = make_mixtures(speech, noise, tmp_path / "out", count=8, snr_db=(0,), seed=2, seconds=1.0, noise_part=part)
    recording = read(noise.recordings[0].path)[0][0]
    for row in rows:
        start = round(row.noise_offset_seconds * RATE)
        assert part[0] * recording.size <= start <= part[1] * recording.size - RATE
        noisy, clean = (read(tmp_path / "out" / side / row.file)[0][0] for side in ("noisy", "clean"))
        expected = 10 ** (row.noise_gain_db / 20) * recording[start : start + RATE]
        np.testing.assert_allclose(noisy - clean, expected, atol=1e-4)


def test_the_whole_noise_is_the_default(tmp_path, corpora):
    arguments = {"count": 2, "snr_db": (0,), "seed": 1}
    assert make_mixtures(*corpora, tmp_path / "one", **arguments) == make_mixtures(
        *corpora, tmp_path / "same", noise_part=(0.0, 1.0), **arguments
    )


@pytest.mark.parametrize("part", [(-0.1, 1.0), (0.5, 0.5), (0.0, 1.1)])
def test_a_part_out_of_range_is_reported(tmp_path, corpora, part):
    with pytest.raises(DataError, match="two shares from 0 to 1"):
        make_mixtures(*corpora, tmp_path / "out", count=1, snr_db=(0,), seed=0, noise_part=part)


def test_noise_that_ends_in_silence_is_drawn_again(tmp_path, speech_folder):
    speech, rng = scan(speech_folder), np.random.default_rng(0)
    sound, silence = 0.1 * rng.standard_normal(2 * RATE), np.zeros(2 * RATE)
    write(tmp_path / "noise" / "filled.wav", np.concatenate([sound, silence]).astype(np.float32))
    arguments = {"count": 6, "snr_db": (0,), "seed": 0, "noise_part": (0.6, 1.0)}
    alone = scan(tmp_path / "noise")
    with pytest.raises(AudioError, match=r"found silence in .*filled\.wav"):
        make_mixtures(speech, alone, tmp_path / "out", **arguments)
    write(tmp_path / "noise" / "whole.wav", np.concatenate([sound, sound]).astype(np.float32))
    both = scan(tmp_path / "noise")
    one_kind = Manifest(tuple(replace(recording, group="kind") for recording in both.recordings))
    rows = make_mixtures(speech, one_kind, tmp_path / "out", **arguments)
    assert {row.noise for row in rows} == {str(tmp_path / "noise" / "whole.wav")}


def test_what_is_there_is_kept(tmp_path, corpora):
    output = tmp_path / "out"
    arguments = {"count": 1, "snr_db": (0,), "seed": 0}
    make_mixtures(*corpora, output, **arguments)
    with pytest.raises(DataError, match="overwriting"):
        make_mixtures(*corpora, output, **arguments)
    (output / "enhanced").mkdir()
    (output / "enhanced" / "0.flac").touch()
    make_mixtures(*corpora, output, overwrite=True, **(arguments | {"count": 12}))
    assert len(list((output / "noisy").iterdir())) == 12
    make_mixtures(*corpora, output, overwrite=True, **arguments)
    assert [path.name for path in (output / "noisy").iterdir()] == ["0.flac"]
    assert (output / "enhanced" / "0.flac").exists()
    (output / TABLE).unlink()
    with pytest.raises(DataError, match="no mixtures"):
        make_mixtures(*corpora, output, overwrite=True, **arguments)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="a file"):
        make_mixtures(*corpora, tmp_path / "file", **arguments)


def test_a_failure_leaves_nothing(tmp_path, corpora):
    def fail(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_mixtures(*corpora, tmp_path / "out", count=2, snr_db=(0,), seed=0, progress=fail)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["noise", "speech"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"count": 0},
        {"count": 10**12},
        {"snr_db": ()},
        {"snr_db": (float("nan"),)},
        {"room_share": 1.5},
        {"seconds": 0.0},
        {"seconds": 1e12},
        {"sample_rate": 10**9},
        {"seed": -1},
    ],
    ids=str,
)
def test_numbers_out_of_range_are_reported(tmp_path, corpora, wrong):
    with pytest.raises(DataError, match=r"found .*expected"):
        make_mixtures(*corpora, tmp_path / "out", **({"count": 1, "snr_db": (0,), "seed": 0} | wrong))


def test_the_command(tmp_path, speech_folder, noise_folder, monkeypatch, capsys):
    from sottovoce import cli

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["sottovoce", "mix", *map(str, arguments)])
        return cli.main()

    folders = ("--speech", speech_folder, "--noise", noise_folder)
    assert run(*folders, "--count", 2, "--snr-db", -5, 5, "--seconds", 2, "-o", tmp_path / "out") == 0
    assert "Mixed 2 files" in capsys.readouterr().out
    assert len(list((tmp_path / "out" / "noisy").iterdir())) == 2
    assert run(*folders, "--count", 2, "-o", tmp_path / "out") == 1
    assert "overwriting" in capsys.readouterr().err
    both = ("--rooms", tmp_path, "--simulated-rooms", 0.5)
    assert run(*folders, *both, "--count", 1, "-o", tmp_path / "other") == 1
    assert "one of them" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert run("--speech", tmp_path / "empty", "--noise", noise_folder, "--count", 1, "-o", tmp_path / "other") == 1
    assert "no recording" in capsys.readouterr().err


def test_a_table_from_elsewhere_deletes_nothing_outside(tmp_path, corpora):
    output, precious = tmp_path / "out", tmp_path / "precious.flac"
    arguments = {"count": 1, "snr_db": (0,), "seed": 0}
    make_mixtures(*corpora, output, **arguments)
    precious.touch()
    table = (output / TABLE).read_text(encoding="utf-8")
    (output / TABLE).write_text(table.replace("0.flac", "../../precious.flac"), encoding="utf-8")
    (output / "noisy" / "0.flac").unlink()
    (output / "clean" / "0.flac").unlink()
    make_mixtures(*corpora, output, overwrite=True, **arguments)
    assert precious.exists()
