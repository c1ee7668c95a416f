"""What is found in two folders: who is held out, which noise, and which warnings."""

import logging
import shutil

import numpy as np

from sottovoce.data.corpora.manifest import Manifest
from sottovoce.signal import audio
from sottovoce.training.preparation import prepare

from ..data.synthetic import RATE, tone, write
from .conftest import make_recordings, tiny


def prepared(speech, mixtures, out, caplog, **training):
    caplog.clear()
    with caplog.at_level(logging.WARNING, "sottovoce"):
        data = prepare(speech, mixtures, out, tiny(**training))
    return data, " ".join(record.getMessage() for record in caplog.records)


def test_good_folders_are_silent(folders, tmp_path, caplog):
    speech, made = folders
    data, warnings = prepared(speech, made / "noisy", tmp_path, caplog)
    assert warnings == ""
    assert data.stretches
    assert len(data.rooms) == 2
    for used, held_back in ((data.speech, data.held_back_speech), (data.mixtures, data.held_back_mixtures)):
        assert not set(used.groups) & set(held_back.groups)
    assert {stretch.recording for stretch in data.stretches} <= set(data.mixtures.recordings)


def test_unreadable_files_are_reported_and_left_out(folders, tmp_path, caplog):
    speech, made = folders
    shutil.copytree(speech, tmp_path / "speech")
    (tmp_path / "speech" / "anna" / "damaged.flac").write_bytes(b"fLaC and nothing more")
    write(tmp_path / "speech" / "anna" / "click.wav", np.ones(10, np.float32))
    data, warnings = prepared(tmp_path / "speech", made / "noisy", tmp_path / "run", caplog)
    assert "damaged.flac" in warnings
    assert "click.wav" in warnings
    assert len(Manifest.load(tmp_path / "run" / "speech.jsonl").unusable) == 2
    assert len(data.speech.recordings) + len(data.held_back_speech.recordings) == 6


def test_the_draws_of_one_folder_do_not_depend_on_the_other(folders, tmp_path, caplog):
    speech, made = folders
    other = make_recordings(tmp_path, 5)
    one, _ = prepared(speech, made / "noisy", tmp_path / "one", caplog)
    two, _ = prepared(speech, other / "noisy", tmp_path / "two", caplog)
    assert one.speech == two.speech
    assert all(np.array_equal(a.response, b.response) for a, b in zip(one.rooms, two.rooms, strict=True))


def test_one_session_alone_is_reported(folders, tmp_path, caplog):
    speech, made = folders
    shutil.copytree(made / "noisy", tmp_path / "mixtures" / "monday")
    data, warnings = prepared(speech, tmp_path / "mixtures", tmp_path / "run", caplog)
    assert "mixtures: one speaker or session alone" in warnings
    assert data.mixtures == data.held_back_mixtures


def test_swapped_and_overlapping_folders_are_reported(folders, tmp_path, caplog):
    speech, _ = folders
    rng = np.random.default_rng(1)
    for number in range(3):
        noise = 0.05 * rng.standard_normal(3 * RATE)
        write(tmp_path / "noisy" / f"{number}.wav", (tone(3.0, 150, rng) + noise).astype(np.float32))
        gaps = np.concatenate([tone(1.0, 150, rng), np.zeros(RATE // 2, np.float32)] * 2)
        write(tmp_path / "clean" / f"{number}.wav", gaps)
    assert "swapped" in prepared(tmp_path / "noisy", tmp_path / "clean", tmp_path / "1", caplog)[1]
    assert "swapped" not in prepared(tmp_path / "clean", tmp_path / "noisy", tmp_path / "2", caplog)[1]
    shutil.copy(audio.find_audio(speech)[0], tmp_path / "noisy" / "copy.wav")
    assert "1 recordings in both folders" in prepared(speech, tmp_path / "noisy", tmp_path / "3", caplog)[1]
