import shutil

import numpy as np
import pytest

from sottovoce.data.corpora.checks import dynamic_range_db, suspicions
from sottovoce.data.corpora.manifest import scan

from ..synthetic import RATE, tone, write


@pytest.fixture
def folders(tmp_path):
    """Clean speech with short gaps, and the same kind of speech in steady noise."""
    rng = np.random.default_rng(0)
    for number in range(4):
        clean = np.concatenate([tone(1.0, 120 + 10 * number, rng), np.zeros(RATE // 2, np.float32)] * 3)
        write(tmp_path / "speech" / str(number) / "0.wav", clean + 1e-4 * rng.standard_normal(clean.size))
        other = np.concatenate([tone(1.0, 160 + 10 * number, rng), np.zeros(RATE // 2, np.float32)] * 3)
        write(tmp_path / "mixtures" / str(number) / "0.wav", other + 0.02 * rng.standard_normal(other.size))
    return tmp_path / "speech", tmp_path / "mixtures"


def test_good_folders_are_not_suspicious(folders):
    assert suspicions(*map(scan, folders)) == []


def test_swapped_folders(folders):
    (found,) = suspicions(*map(scan, reversed(folders)))
    assert "--speech and --mixtures are swapped" in found


def test_one_folder_given_twice(folders):
    speech = scan(folders[0])
    (found,) = suspicions(speech, speech)
    assert "4 recordings in both folders" in found


def test_a_copy_under_another_name(folders):
    speech, mixtures = folders
    shutil.copy(speech / "0" / "0.wav", mixtures / "meeting.wav")
    (found,) = suspicions(scan(speech), scan(mixtures))
    assert "1 recordings in both folders" in found
    assert "meeting.wav" in found


def test_noise_narrows_the_range(folders):
    clean, noisy = (dynamic_range_db(scan(folder).recordings[0]) for folder in folders)
    assert clean > 35
    assert noisy < 25


def test_many_recordings_are_sampled(tmp_path, monkeypatch):
    from sottovoce.data.corpora import checks

    for number in range(50):
        write(tmp_path / f"{number:02}.wav", np.full(RATE, 0.01 * (1 + number % 7) + 1e-4 * number, np.float32))
    manifest, looked_at = scan(tmp_path), []
    monkeypatch.setattr(checks, "dynamic_range_db", lambda recording: looked_at.append(recording) or 30.0)
    suspicions(manifest, manifest)
    assert 2 * 10 <= len(looked_at) <= 2 * 20
