"""Every row can be built, and says what it learned from."""

import itertools

import numpy as np
import pytest

from sottovoce.benchmark.systems import SYSTEMS
from sottovoce.config import MaskingSettings, find_settings, load_settings

RATE = 16000


def reference():
    rng = np.random.default_rng(0)
    rhythm = np.sin(2 * np.pi * 3 * np.arange(RATE) / RATE) ** 2
    return (0.1 * rhythm * rng.standard_normal(RATE)).astype(np.float32)


@pytest.mark.parametrize("row", [row for row, entry in SYSTEMS.items() if entry.make])
def test_rows_without_training_enhance(row):
    entry = SYSTEMS[row]
    if entry.missing:
        pytest.skip(f"{entry.package} is not installed")
    clean = reference()
    noisy = clean + 0.02 * np.random.default_rng(1).standard_normal(RATE).astype(np.float32)
    enhanced = entry.make(clean).enhance(noisy, RATE)
    assert enhanced.shape == noisy.shape
    assert enhanced.dtype == np.float32
    assert np.isfinite(enhanced).all()
    assert np.array_equal(enhanced, noisy) == (row == "unprocessed")


@pytest.mark.parametrize("row", [row for row, entry in SYSTEMS.items() if entry.settings])
def test_pairs_are_for_rows_that_say_so(row):
    entry = SYSTEMS[row]
    settings = load_settings(find_settings(entry.settings))
    assert settings.training.data.pairs == (entry.supervision == "pairs")
    assert not isinstance(settings.baseline, MaskingSettings) or entry.supervision == "pairs"


def test_all_trained_rows_have_one_budget():
    settings = [load_settings(find_settings(entry.settings)) for entry in SYSTEMS.values() if entry.settings]
    assert len({(s.training.speech_steps, s.training.joint_steps, s.training.optimiser) for s in settings}) == 1
    for each in settings:
        data = each.training.data
        assert data.speech_clips == 4
        assert data.mixture_clips + data.noise_clips <= 4 or each.baseline is not None
        assert data.mixture_clips + data.noise_clips + data.pseudo_clips * (each.baseline is None) <= 6
        # A shorter frame shift has shorter clips: as many frames a step.
        assert data.clip_seconds / each.frontend.hop == 2.0 / 256


def test_the_chain_of_ablations_ends_in_the_poster():
    """SSE + second decoder + shared layer + multi-resolution + consistency is the joint system, and nothing else."""
    names = ("baselines/sse", "ablations/plus_second_decoder", "ablations/plus_shared_layer")
    chain = [load_settings(find_settings(name)) for name in (*names, "ablations/no_consistency", "poster_cpu")]

    def differences(one, other):
        found = set()
        for part in ("frontend", "model", "speech_weights", "joint_weights", "training"):
            before, after = (getattr(each, part).model_dump() for each in (one, other))
            found |= {f"{part}.{key}" for key in before if before[key] != after[key]}
        return found

    assert [differences(one, other) for one, other in itertools.pairwise(chain)] == [
        {"model.phase", "speech_weights.phase"},
        {"model.shared_layer"},
        {"frontend.windows", "speech_weights.multi_resolution", "joint_weights.multi_resolution"},
        {"speech_weights.consistency", "joint_weights.consistency"},
    ]
