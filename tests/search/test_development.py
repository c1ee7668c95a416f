"""What trials are scored on: nothing that they are trained on."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from sottovoce.config import changed
from sottovoce.errors import DataError
from sottovoce.metrics.intrusive import si_sdr
from sottovoce.search.development import of_held_out, of_pairs
from sottovoce.signal import audio
from sottovoce.training.preparation import prepare
from sottovoce.training.run import untrained

from ..training.conftest import tiny


@pytest.fixture(scope="module")
def data(folders, tmp_path_factory):
    speech, made = folders
    return prepare(speech, made / "noisy", tmp_path_factory.mktemp("run"), tiny(), with_rooms=False)


@pytest.fixture(scope="module")
def held_out(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("held_out")
    return folder, of_held_out(data, folder, tiny())


def test_mixtures_are_of_held_out_speakers_and_noise(data, held_out):
    folder, development = held_out
    table = (folder / "mixtures" / "mixtures.csv").read_text()
    for recording in data.held_back_speech.recordings:
        assert str(recording.path) in table
    for recording in (*data.speech.recordings, *data.mixtures.recordings):
        assert str(recording.path) not in table
    sources = {path.parent.name for path in (folder / "noise").rglob("*.flac")}
    assert sources
    assert sources <= set(data.held_back_mixtures.groups)
    assert "held out of the trainings" in development.what


def test_they_are_made_once(data, held_out):
    folder, development = held_out
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.flac")}
    again = of_held_out(data, folder, tiny())
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.flac")} == before
    assert [pair.file for pair in again.pairs] == [pair.file for pair in development.pairs]


def test_scores_are_those_of_the_measures(held_out):
    _, development = held_out
    (first, *_) = development.unprocessed(["si_sdr_db"])
    pair = development.pairs[0]
    assert first.scores.si_sdr_db == pytest.approx(si_sdr(pair.clean, pair.noisy))
    system = untrained(tiny()).eval()
    scores = development.scores(system, "untrained", ["si_sdr_db"])
    assert development.mean(system, "si_sdr_db") == pytest.approx(np.mean([s.scores.si_sdr_db for s in scores]))


def test_a_system_without_sound_has_no_score(held_out):
    _, development = held_out
    system = untrained(tiny()).eval()
    for parameter in system.parameters():
        parameter.data.fill_(np.nan)
    assert np.isnan(development.mean(system, "si_sdr_db"))


def test_one_speaker_is_too_few(folders, tmp_path):
    speech, made = folders
    settings = tiny()
    shutil.copytree(speech / "anna", tmp_path / "one" / "anna")
    alone = prepare(tmp_path / "one", made / "noisy", tmp_path / "other", settings, with_rooms=False)
    with pytest.raises(DataError, match="one speaker of clean speech alone"):
        of_held_out(alone, tmp_path / "development", settings)


def test_recordings_without_pauses_are_named(data, tmp_path):
    with pytest.raises(DataError, match=r"no pause of 0\.5 s"):
        of_held_out(replace(data, held_back_stretches=()), tmp_path, tiny())


@pytest.mark.parametrize("rate", [16000, 8000])
def test_pairs_of_somebody(data, tmp_path, rate):
    rng = np.random.default_rng(5)
    for folder, level in (("clean", 0.0), ("noisy", 0.05)):
        (tmp_path / folder).mkdir()
        tone = 0.1 * np.sin(np.arange(rate) * 0.1) + level * rng.standard_normal(rate)
        with audio.Writer(tmp_path / folder / "a.wav", rate, 1) as writer:
            writer.write(tone[np.newaxis].astype(np.float32))
    development = of_pairs(tmp_path, data, tiny())
    (pair,) = development.pairs
    assert pair.noisy.size == pair.clean.size == 16000
    assert "1 pair of other recordings" in development.what


def test_pairs_of_the_training_are_refused(folders, data, tmp_path):
    _, made = folders
    shutil.copytree(made, tmp_path / "pairs")
    with pytest.raises(DataError, match="among the recordings to train on"):
        of_pairs(tmp_path / "pairs", data, changed(tiny(), {"name": "another"}, "a test"))
