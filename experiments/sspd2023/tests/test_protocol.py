import csv
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.data.synthetic import RATE, write

from sottovoce import atomic
from sottovoce.data.corpora.manifest import Manifest, scan
from sottovoce.errors import ConfigError, DataError
from sottovoce.signal.audio import find_audio, probe, read
from sottovoce.signal.levels import active_speech_db, rms_db
from sspd2023.protocol import Counts, Entry, build, check_disjoint
from sspd2023.split import CONDITIONS, Sources

from .corpora import NOISE_SECONDS, make_noise, make_rooms, make_speech

NO_PROCESS = 2**22 + 1  # above the largest number of a process
COUNTS = Counts(
    clean_signals=3, clean_seconds=2.0, mixtures=4, mixture_seconds=2.0, test_mixtures=6, test_seconds=1.0, snr_db=(0,)
)
UTTERANCES = 4


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpora")
    return Sources(
        make_speech(folder / "speech", 8, utterances=UTTERANCES),
        make_noise(folder / "noise", 4),
        make_rooms(folder / "rooms", 4),
    )


def table(protocol, name="protocol"):
    with (protocol.folder / protocol.condition.name / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def used(rows, column, *parts):
    return {name for row in rows if row["part"] in parts for name in row[column].split("|") if name}


def content(folder):
    """All that a build promises to be equal for equal seeds: audio, and how it was made."""
    paths = [*find_audio(folder), *folder.glob("*/protocol.csv"), *folder.glob("*/split.csv")]
    return {path.relative_to(folder): path.read_bytes() for path in paths}


@given(st.sampled_from(list(CONDITIONS)), st.integers(0, 2**31))
@settings(max_examples=8, deadline=None, derandomize=True)
@example("poster", 0)
@example("matched", 0)
@example("dry", 0)
def test_parts_are_disjoint(sources, condition, seed):
    with tempfile.TemporaryDirectory() as folder:
        protocol = build(sources, condition, COUNTS, Path(folder) / "out", seed)
        rows, split = table(protocol), table(protocol, "split")
    for column in ("speaker", "speech"):
        parts = [used(rows, column, part) for part in ("speech", "mixtures", "test")]
        assert all(parts)
        assert len(set.union(*parts)) == sum(map(len, parts))
    matched, reverberant = CONDITIONS[condition].matched, CONDITIONS[condition].in_rooms
    for column in ("noise_kind", "noise", "room", "response"):
        training, test = used(rows, column, "mixtures"), used(rows, column, "test")
        assert bool(training) == bool(test) == (reverberant or column.startswith("noise"))
        if not matched:
            assert not test & training
        elif column in ("noise_kind", "room"):
            assert test <= training
    for row in rows:
        assert all(f"/{row['speaker']}/" in speech for speech in row["speech"].split("|"))
        assert f"/{row['noise_kind']}/" in row["noise"] or not row["noise"]
        assert f"/{row['room']}/" in row["response"] or not row["response"]
    for what, column in (("speaker", "speaker"), ("noise", "noise_kind"), ("room", "room")):
        for part in ("speech", "mixtures", "test"):
            named = {row["name"] for row in split if (row["what"], row["part"]) == (what, part)}
            assert used(rows, column, part) <= named
        assert {row["name"] for row in split if row["what"] == what} == set(
            {"speaker": sources.speech, "noise": sources.noise, "room": sources.rooms}[what].groups
        )


def test_what_a_protocol_holds(tmp_path, sources):
    seen = []
    counts = replace(COUNTS, snr_db=(-5, 0, 5))
    protocol = build(sources, "poster", counts, tmp_path / "out", 1, progress=lambda *done: seen.append(done))
    folders = (protocol.speech, protocol.mixtures, protocol.clean, protocol.test_noisy, protocol.test_clean)
    for folder, count, seconds in zip(folders, (3, 4, 4, 6, 6), (2.0, 2.0, 2.0, 1.0, 1.0), strict=True):
        infos = [probe(path) for path in find_audio(folder)]
        assert len(infos) == count
        assert {(info.sample_rate, info.channels, info.seconds) for info in infos} == {(RATE, 1, seconds)}
    assert ("clean signals", 3, 3) in seen
    assert seen[-1] == ("test mixtures of 'poster'", 6, 6)

    assert [test.name for test in protocol.tests] == [path.stem for path in find_audio(protocol.test_noisy)]
    assert [test.snr_db for test in protocol.tests] == [-5, 0, 5] * 2
    rows = table(protocol)
    assert [row["part"] for row in rows] == ["speech"] * 3 + ["mixtures"] * 4 + ["test"] * 6
    assert {protocol.folder / row["file"] for row in rows[3:7]} == set(find_audio(protocol.mixtures))
    assert [protocol.folder / row["file"] for row in rows[7:]] == [test.noisy for test in protocol.tests]
    speakers = [row["speaker"] for row in rows if row["part"] == "test"]
    assert max(map(speakers.count, speakers)) - min(map(speakers.count, speakers)) <= 1


def test_the_seed_gives_every_draw(tmp_path, sources):
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        build(sources, "poster", COUNTS, tmp_path / name, seed)
    one, same, other = (content(tmp_path / name) for name in ("one", "same", "other"))
    assert one == same
    assert not set(one.values()) & set(other.values())


def test_conditions_share_what_they_can(tmp_path, sources):
    folder, tasks = tmp_path / "out", []
    poster, matched, dry = (
        build(sources, name, COUNTS, folder, 1, progress=lambda task, *_: tasks.append(task))
        for name in ("poster", "matched", "dry")
    )
    assert tasks.count("clean signals") == COUNTS.clean_signals
    assert tasks.count("reverberant training mixtures") == COUNTS.mixtures
    assert tasks.count("test signals") == COUNTS.test_mixtures
    assert poster.training_fingerprint == matched.training_fingerprint != dry.training_fingerprint
    assert (poster.speech, poster.mixtures, poster.clean) == (matched.speech, matched.mixtures, matched.clean)
    alone = build(sources, "matched", COUNTS, tmp_path / "alone", 1)
    assert alone.training_fingerprint == poster.training_fingerprint
    # The dry condition is the poster's without rooms: the same speech and the same noise.
    columns = ("speaker", "speech", "noise", "noise_offset_seconds", "snr_db")
    assert [[row[name] for name in columns] for row in table(dry)] == [
        [row[name] for name in columns] for row in table(poster)
    ]


def test_a_matched_test_has_excerpts_of_its_own(tmp_path, sources):
    protocol = build(sources, "matched", replace(COUNTS, mixtures=12, test_mixtures=12), tmp_path / "out", 3)
    border = 0.75 * NOISE_SECONDS
    for row in table(protocol)[3:]:
        start = float(row["noise_offset_seconds"])
        if row["part"] == "mixtures":
            assert start + COUNTS.mixture_seconds <= border
        else:
            assert border <= start <= NOISE_SECONDS - COUNTS.test_seconds


def test_a_dry_condition_has_no_rooms(tmp_path, sources):
    protocol = build(sources._replace(rooms=None), "dry", replace(COUNTS, snr_db=(60,)), tmp_path / "out", 1)
    for folder, clean_folder in ((protocol.mixtures, protocol.clean), (protocol.test_noisy, protocol.test_clean)):
        for path in find_audio(folder):
            noisy, clean = read(path)[0][0], read(clean_folder / path.name)[0][0]
            assert active_speech_db(clean, RATE) - rms_db(noisy - clean) == pytest.approx(60, abs=2)


def test_the_target_is_aligned_with_the_direct_sound_in_rooms_longer_than_the_speech(tmp_path, sources):
    rooms = make_rooms(tmp_path / "rooms", 2, seconds=3.0)
    protocol = build(sources._replace(rooms=rooms), "poster", replace(COUNTS, snr_db=(60,)), tmp_path / "out", 1)
    pairs = [(test.noisy, test.clean) for test in protocol.tests]
    pairs += [(path, protocol.clean / path.name) for path in find_audio(protocol.mixtures)]
    for noisy_path, clean_path in pairs:
        noisy, clean = read(noisy_path)[0][0], read(clean_path)[0][0]
        assert rms_db(noisy - clean) > rms_db(clean) - 25  # there is a room
        spectra = np.fft.rfft(noisy, 2 * noisy.size) * np.conj(np.fft.rfft(clean, 2 * noisy.size))
        correlation = np.fft.irfft(spectra)
        assert np.argmax(np.abs(correlation)) == 0
        # Resampled, a direct sound lies up to half a sample beside the grid.
        assert 0.7 < correlation[0] / np.square(clean).sum() < 1.1
    dry = [read(path)[0][0] for path in find_audio(protocol.folder / "test-speech")]
    for test in protocol.tests:
        clean = read(test.clean)[0][0]
        similarity = [clean @ signal / (np.linalg.norm(clean) * np.linalg.norm(signal)) for signal in dry]
        assert max(similarity) > 0.999


def test_noises_and_rooms_of_the_test_may_be_given(tmp_path, sources):
    given_sources = sources._replace(
        test_noise=make_noise(tmp_path / "new-noise", 2, seed=9), test_rooms=make_rooms(tmp_path / "new-rooms", 1)
    )
    protocol = build(given_sources, "poster", COUNTS, tmp_path / "out", 1)
    rows, split = table(protocol), table(protocol, "split")
    # Kinds and rooms of the same name as those of the test are not trained on.
    assert used(rows, "noise_kind", "test") == {"kind0", "kind1"}
    assert used(rows, "noise_kind", "mixtures") == {"kind2", "kind3"}
    assert used(rows, "room", "test") == {"room0"}
    assert used(rows, "room", "mixtures") == {"room1", "room2", "room3"}
    assert all("new-noise" in path for path in used(rows, "noise", "test"))
    assert {row["name"] for row in split if (row["what"], row["part"]) == ("noise", "test")} == {"kind0", "kind1"}
    matched = build(given_sources, "matched", COUNTS, tmp_path / "out", 1)
    assert used(table(matched), "noise_kind", "test") <= {"kind2", "kind3"}

    with pytest.raises(DataError, match="found 0 kinds of noise for training besides the 4 of the test"):
        build(sources._replace(test_noise=sources.noise), "poster", COUNTS, tmp_path / "none", 1)


def test_one_recording_under_two_names_is_found(tmp_path, sources):
    (tmp_path / "noise" / "renamed").mkdir(parents=True)
    for number, path in enumerate(find_audio(sources.noise.recordings[0].path.parents[1])):
        (tmp_path / "noise" / "renamed" / f"{number}.wav").symlink_to(path)
    renamed = sources._replace(test_noise=scan(tmp_path / "noise"))
    with pytest.raises(DataError, match=r"found the noise file .* in mixtures and in test"):
        build(renamed, "poster", COUNTS, tmp_path / "out", 1)


def entry(part, **changes):
    unlike = {name: f"{part}-{name}" for name in ("speaker", "speech", "noise_kind", "noise", "room", "response")}
    sound = {"noise_offset_seconds": 0.0, "snr_db": 0.0, "seed": 0, "noisy_sha256": "", "clean_sha256": ""}
    return Entry(part=part, file="0.flac", **(unlike | sound | changes))


@pytest.mark.parametrize(
    ("shared", "in_training"),
    [
        ("speaker", True),
        ("speech", True),
        ("noise_kind", False),
        ("noise", False),
        ("room", False),
        ("response", False),
    ],
)
def test_every_overlap_is_an_error(shared, in_training):
    check_disjoint([entry("speech"), entry("mixtures"), entry("test")], CONDITIONS["poster"])
    overlapping = [entry("mixtures", **{shared: "same"}), entry("test", **{shared: "same"})]
    with pytest.raises(DataError, match=r"found the .*same in mixtures and in test"):
        check_disjoint(overlapping, CONDITIONS["poster"])
    if in_training:
        with pytest.raises(DataError, match=r"found the .*same in speech and in mixtures"):
            check_disjoint([entry("speech", **{shared: "same"}), *overlapping], CONDITIONS["poster"])
    else:
        check_disjoint(overlapping, CONDITIONS["matched"])


@pytest.mark.parametrize(
    ("what", "groups", "sentence"),
    [
        ("speech", 2, "found 2 speakers, expected at least 3"),
        ("noise", 1, "found 1 kinds of noise, expected at least 2"),
        ("rooms", 1, "found 1 rooms, expected at least 2"),
        ("rooms", 0, "found 0 rooms, expected at least 2"),
    ],
)
@pytest.mark.parametrize("condition", ["poster", "matched"])
def test_too_few_are_reported(tmp_path, sources, condition, what, groups, sentence):
    manifest = getattr(sources, what)
    kept = manifest.groups[:groups]
    few = Manifest(tuple(recording for recording in manifest.recordings if recording.group in kept))
    with pytest.raises(DataError, match=sentence):
        build(sources._replace(**{what: few or None}), condition, COUNTS, tmp_path / "out", 1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("stop_at", [2, 5, 9, 15])
def test_a_stopped_build_goes_on(tmp_path, sources, stop_at):
    build(sources, "poster", COUNTS, tmp_path / "whole", 1)
    calls = []

    def stop(*done):
        calls.append(done)
        if len(calls) == stop_at:
            # A process that is killed cannot tidy up: what it worked in stays.
            for path in [path for path in folder.rglob(".*") if path.is_dir()]:
                shutil.copytree(path, path.with_name(path.name.replace(f"-{os.getpid()}-", f"-{NO_PROCESS}-")))
            raise KeyboardInterrupt

    folder = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        build(sources, "poster", COUNTS, folder, 1, progress=stop)
    assert len(list(folder.rglob(".*"))) == 1
    atomic._clear_leftovers_once.cache_clear()  # as in the process that goes on
    build(sources, "poster", COUNTS, folder, 1)
    assert content(folder) == content(tmp_path / "whole")
    assert not [path for path in folder.rglob("*") if path.name.startswith(".")]


def test_a_damaged_part_is_made_again_and_a_whole_one_is_not(tmp_path, sources):
    folder, made = tmp_path / "out", []
    protocol = build(sources, "poster", COUNTS, folder, 1)
    whole = content(folder)
    for path in find_audio(folder)[::2]:
        path.unlink()
    build(sources, "poster", COUNTS, folder, 1)
    assert content(folder) == whole

    victim = find_audio(protocol.clean)[0]
    victim.write_bytes(victim.read_bytes()[:-100])
    (folder / "test-speech" / "signals.csv").unlink()
    write(protocol.speech / "stranger" / "0.flac", np.ones(RATE, np.float32) / 2)
    build(sources, "poster", COUNTS, folder, 1)
    assert content(folder) == whole

    again = build(sources, "poster", COUNTS, folder, 1, progress=lambda *done: made.append(done))
    assert not made
    assert again == protocol


@pytest.mark.parametrize("other", ["seed", "counts", "sources"])
def test_a_folder_of_other_choices_is_kept(tmp_path, sources, other):
    folder = tmp_path / "out"
    build(sources, "poster", COUNTS, folder, 1)
    before = content(folder)
    changed = {
        "seed": (sources, "poster", COUNTS, folder, 2),
        "counts": (sources, "matched", replace(COUNTS, mixtures=5), folder, 1),
        "sources": (sources._replace(test_noise=sources.rooms), "dry", COUNTS, folder, 1),
    }
    with pytest.raises(DataError, match="another seed, other counts or other recordings"):
        build(*changed[other])
    assert content(folder) == before


def test_a_foreign_folder_is_kept(tmp_path, sources):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="expected a new folder"):
        build(sources, "poster", COUNTS, tmp_path, 1)
    with pytest.raises(DataError, match="expected a new folder"):
        build(sources, "poster", COUNTS, tmp_path / "notes.txt", 1)


def test_wrong_choices_are_reported(tmp_path, sources):
    with pytest.raises(ConfigError, match="expected one of poster, matched, dry"):
        build(sources, "wet", COUNTS, tmp_path / "out", 1)
    with pytest.raises(ConfigError, match="found mixtures 0, test_seconds -1"):
        Counts(mixtures=0, test_seconds=-1)
    with pytest.raises(ConfigError, match="found no signal-to-noise ratio"):
        Counts(snr_db=())


def test_too_little_speech_is_reported(tmp_path, caplog):
    sources = Sources(make_speech(tmp_path / "speech", 8, utterances=3), make_noise(tmp_path / "noise", 2))
    protocol = build(sources, "dry", replace(COUNTS, clean_signals=28), tmp_path / "out", 1)
    assert "found speech for 4 clean signals of 2 s, expected 28" in caplog.text
    assert len(find_audio(protocol.speech)) == 4
