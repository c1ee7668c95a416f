"""Every row can be built, and says what it learned from."""

import itertools

import numpy as np
import pytest
import torch

pytest.importorskip("lightning")

import sottovoce
from sottovoce.models.blocks import Past
from sspd2023.baselines import build_network
from sspd2023.networks import SpeechCeiling
from sspd2023.run import parameters
from sspd2023.settings import MaskingSettings
from sspd2023.systems import SYSTEMS
from sspd2023.training import stage_steps

from .systems import row_settings, small_experiment

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
    settings = row_settings(entry.settings)
    assert (settings.pairs is not None) == (entry.supervision == "pairs")
    assert not isinstance(settings.baseline, MaskingSettings) or entry.supervision == "pairs"


def test_all_trained_rows_have_one_budget():
    settings = [row_settings(entry.settings) for entry in SYSTEMS.values() if entry.settings]
    assert len({sum(stage_steps(each).values()) for each in settings}) == 1
    assert len({each.training.optimiser for each in settings}) == 1
    for each in settings:
        data = each.training.data
        assert data.speech_clips == 4
        drawn = data.simulated_clips if each.baseline or each.pairs else data.mixture_clips + data.noise_clips
        assert drawn + (0 if each.baseline or each.pairs else data.simulated_clips) == 4
        # A shorter hop has shorter clips: as many frames a step.
        assert data.clip_seconds / each.frontend.hop == 2.0 / 256


def test_sse_hears_amplitudes_alone():
    network = build_network(row_settings(SYSTEMS["sse"].settings))
    assert network.maps.per_bin == 1
    assert network.stft.reference.windows == (1024,)
    spectra = torch.randn(1, 2, 513, 4, generator=torch.Generator().manual_seed(0))
    turned = torch.stack([-spectra[:, 1], spectra[:, 0]], dim=1)
    torch.testing.assert_close(network.maps(spectra, Past()), network.maps(turned, Past()))


def test_a_ceiling_has_the_phase_of_the_mixture():
    network = build_network(small_experiment(poster={"phase": "mixture"})).eval()
    clean = reference()
    ceiling = SpeechCeiling(network, clean)
    noisy = clean + 0.02 * np.random.default_rng(1).standard_normal(RATE).astype(np.float32)
    np.testing.assert_allclose(ceiling.enhance(-noisy, RATE), -ceiling.enhance(noisy, RATE), atol=1e-6)
    assert not np.allclose(ceiling.enhance(clean, RATE), ceiling.enhance(noisy, RATE), atol=1e-4)


def test_parameters_are_those_that_enhancing_needs():
    counts = {}
    for row in ("joint", "joint_ceiling", "irm", "pvq", "cf", "default", "wiener"):
        name = SYSTEMS[row].settings
        counts[row] = parameters(SYSTEMS[row], row_settings(name) if name else None)
    assert counts["wiener"] is None
    assert counts["default"] == sottovoce.load().model.metadata.parameters
    assert all(count > 100_000 for row, count in counts.items() if row != "wiener")
    pvq = build_network(row_settings("baselines/pvq"))
    everything = sum(value.numel() for value in pvq.parameters())
    assert counts["pvq"] == everything - sum(value.numel() for value in pvq.prediction.parameters())


def test_the_chain_of_ablations_ends_in_the_poster():
    """SSE + second decoder + shared layer + multi-resolution + consistency is the joint system, and nothing else."""
    names = ("baselines/sse", "ablations/plus_second_decoder", "ablations/plus_shared_layer")
    chain = [row_settings(name) for name in (*names, "ablations/no_consistency", "poster_cpu")]

    def differences(one, other):
        found = set()
        for part in ("frontend", "poster", "speech_weights", "joint_weights", "training"):
            before, after = (getattr(each, part).model_dump() for each in (one, other))
            found |= {f"{part}.{key}" for key in before if before[key] != after[key]}
        return found

    assert [differences(one, other) for one, other in itertools.pairwise(chain)] == [
        {"poster.phase_features", "poster.phase", "speech_weights.phase"},
        {"poster.shared_layer"},
        {"poster.shorter_windows", "speech_weights.multi_resolution", "joint_weights.multi_resolution"},
        {"speech_weights.consistency", "joint_weights.consistency"},
    ]
