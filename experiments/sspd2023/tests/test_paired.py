"""Pairs for supervised systems: found by name, drawn together, and only by who asks for them."""

import numpy as np
import pytest
from tests.data.synthetic import RATE, tone, write

from sottovoce.config import DataSettings
from sottovoce.data.corpora.manifest import scan
from sottovoce.data.sampling import UnpairedBatch
from sottovoce.errors import DataError
from sspd2023.paired import PairedClips, match_pairs


@pytest.fixture
def folders(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b/c"):
        clean = tone(2.0, 150, rng)
        write(tmp_path / "clean" / f"{name}.wav", clean)
        write(tmp_path / "noisy" / f"{name}.wav", 0.5 * clean)
    return tmp_path / "noisy", tmp_path / "clean"


class NoOtherClips:
    def batch(self, step, purpose):
        nothing = np.zeros((0, RATE // 2), np.float32)
        return UnpairedBatch(*[nothing] * 7)


def paired(folders, seed=1, *, varied=False, **wanted):
    noisy, clean = folders
    pairs = match_pairs(scan(noisy), noisy, clean)
    settings = DataSettings(simulated_clips=3, clip_seconds=0.5, level_db=(-30.0, -20.0), simulation=wanted)
    return PairedClips(NoOtherClips(), pairs, settings=settings, varied=varied, sample_rate=RATE, seed=seed)


def test_pairs_are_matched_by_their_path(folders):
    noisy, clean = folders
    pairs = match_pairs(scan(noisy), noisy, clean)
    assert [(pair.mixture.path, pair.clean) for pair in pairs] == [
        (noisy / "a.wav", clean / "a.wav"),
        (noisy / "b" / "c.wav", clean / "b" / "c.wav"),
    ]


def test_both_are_drawn_from_one_place_under_one_gain(folders):
    batch = paired(folders).batch(0, "joint")
    assert batch.simulated_mixtures.shape == batch.simulated_targets.shape == (3, RATE // 2)
    np.testing.assert_allclose(batch.simulated_mixtures, 0.5 * batch.simulated_targets, atol=1e-3)
    level_db = 20 * np.log10(np.sqrt(np.mean(np.square(batch.simulated_mixtures), axis=1)))
    assert (level_db > -30.1).all()
    assert (level_db < -19.9).all()


def test_varied_pairs_are_other_recordings_of_the_same_speech(tmp_path):
    rng = np.random.default_rng(0)
    for name, hertz in (("a", 150), ("b", 210)):
        clean = tone(2.0, hertz, rng)
        write(tmp_path / "clean" / f"{name}.wav", clean)
        write(tmp_path / "noisy" / f"{name}.wav", clean + 0.05 * rng.standard_normal(len(clean)))
    clips = paired(
        (tmp_path / "noisy", tmp_path / "clean"), varied=True, random_filter=0.0, speech={"speed": (0.9, 1.1)}
    )
    batches = [clips.batch(step, "joint") for step in range(8)]
    mixtures = np.concatenate([batch.simulated_mixtures for batch in batches])
    targets = np.concatenate([batch.simulated_targets for batch in batches])
    assert mixtures.shape == targets.shape == (24, RATE // 2)
    # What is not the target is the white noise, whatever else was changed: as strong in high bands, where no tone is.
    spectra = np.abs(np.fft.rfft(mixtures - targets))
    assert (np.median(spectra[:, 2000:], axis=1) > 0.5 * np.median(spectra[:, :2000], axis=1)).all()
    # Other speeds: the fundamental is found at many places, not at those of two tones.
    pitches = np.argmax(np.abs(np.fft.rfft(targets))[:, 120:], axis=1)
    assert len(set(pitches)) > 8


def test_what_varied_pairs_lose_may_stay_audible(folders):
    batch = paired(folders, varied=True, attenuation_db=20.0, random_filter=0.0).batch(0, "joint")
    whole = paired(folders, varied=True, random_filter=0.0).batch(0, "joint")
    np.testing.assert_allclose(batch.simulated_mixtures, whole.simulated_mixtures, atol=1e-6)
    rest = whole.simulated_mixtures - whole.simulated_targets
    np.testing.assert_allclose(batch.simulated_targets, whole.simulated_targets + 0.1 * rest, atol=1e-6)


def test_a_batch_depends_on_seed_and_step_alone(folders):
    clips = paired(folders)
    first = clips.batch(3, "joint")
    clips.batch(4, "joint")
    assert np.array_equal(first.simulated_mixtures, clips.batch(3, "joint").simulated_mixtures)
    assert not np.array_equal(first.simulated_mixtures, clips.batch(4, "joint").simulated_mixtures)
    assert not np.array_equal(first.simulated_mixtures, paired(folders, 2).batch(3, "joint").simulated_mixtures)


def test_a_missing_clean_version_is_named(folders):
    noisy, clean = folders
    (clean / "a.wav").unlink()
    with pytest.raises(DataError, match=r"no clean version of .*a\.wav"):
        match_pairs(scan(noisy), noisy, clean)


def test_a_clean_version_of_another_length_is_refused(folders):
    noisy, clean = folders
    (clean / "a.wav").unlink()
    write(clean / "a.wav", np.zeros(RATE, np.float32))
    with pytest.raises(DataError, match="expected 32000"):
        match_pairs(scan(noisy), noisy, clean)
