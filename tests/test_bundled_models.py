"""The bundled models are those that were measured: their scores on the five pairs of `examples/` are stored.

After a new model, write them again, from the root of the repository, and look at the difference:

    python -c "
    import json, pathlib, sys
    sys.path.insert(0, '.')
    from tests.test_bundled_models import GOLDEN, MODELS, measure
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(json.dumps({name: measure(name) for name in MODELS}, indent=2) + '\\n', encoding='utf-8')
    "
"""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

import sottovoce
from sottovoce.config import find_settings, load_settings, parse_settings
from sottovoce.metrics.intrusive import pesq, si_sdr
from sottovoce.models.checkpoint import load_checkpoint
from sottovoce.signal.resampling import resample
from sottovoce.weights import CHECKPOINTS, MODELS

from .systems import without_warm_up

GOLDEN = Path(__file__).parent / "golden" / "bundled_models.json"
PAIRS = Path(__file__).parents[1] / "examples" / "pairs"
SPEECH = Path(__file__).parents[1] / "examples" / "unpaired" / "held_out" / "clean"
RATE = 16000
TOLERANCE = {"si_sdr_db": 0.01, "pesq_wb": 0.005}


def pair(name):
    """Return the clean and the noisy recording of a pair."""
    recordings = []
    for kind in ("clean", "noisy"):
        samples, rate = sf.read(PAIRS / kind / f"{name}.flac", dtype="float32")
        assert rate == RATE
        recordings.append(samples)
    return recordings


def measure(name):
    """Score what a bundled model makes of the pairs."""
    enhancer = sottovoce.load(name)
    scores = {}
    for path in sorted((PAIRS / "noisy").glob("*.flac")):
        clean, noisy = pair(path.stem)
        enhanced = enhancer.enhance(noisy, RATE)
        scores[path.stem] = {
            "si_sdr_db": round(si_sdr(clean, enhanced), 4),
            "pesq_wb": round(pesq(clean, enhanced), 4),
        }
    return scores


@pytest.fixture(scope="module", params=MODELS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def measured(name):
    return measure(name)


def test_scores_are_the_stored_ones(name, measured):
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert golden.keys() == MODELS.keys()
    golden = golden[name]
    assert len(golden) == 5
    assert measured.keys() == golden.keys()
    for pair_name, scores in golden.items():
        for measure_name, tolerance in TOLERANCE.items():
            assert measured[pair_name][measure_name] == pytest.approx(scores[measure_name], abs=tolerance), pair_name


def test_enhanced_is_better_than_noisy(measured):
    # The reference of 0007 holds the reverberation of its room, which the model takes away: it is measured, not judged.
    measured = {pair_name: scores for pair_name, scores in measured.items() if pair_name != "fileid_0007"}
    gains = {measure_name: [] for measure_name in TOLERANCE}
    for pair_name, scores in measured.items():
        clean, noisy = pair(pair_name)
        gains["si_sdr_db"].append(scores["si_sdr_db"] - si_sdr(clean, noisy))
        gains["pesq_wb"].append(scores["pesq_wb"] - pesq(clean, noisy))
    assert np.mean(gains["si_sdr_db"]) > 2
    assert np.mean(gains["pesq_wb"]) > 0.05


def highs_kept_db(clean, enhanced):
    """Gain of the speech above 3 kHz within what came out."""
    wanted, found = (np.fft.rfft(samples)[3 * len(samples) // 16 :] for samples in (clean, enhanced))
    return 20 * np.log10(np.vdot(wanted, found).real / np.vdot(wanted, wanted).real)


@pytest.mark.parametrize("recorded_rate", [16000, 48000])
def test_highs_of_clean_speech_are_kept_at_any_rate_of_its_recording(name, recorded_rate):
    # A model may take for noise what reaches up to half the rate, if no voice that it learned from did.
    enhancer = sottovoce.load(name)
    kept_db = []
    for path in sorted(SPEECH.glob("*.flac")):
        clean, rate = sf.read(path, dtype="float32")
        assert rate == RATE
        # There and back, soxr leaves next to nothing of the highest 0.3 kHz.
        clean = resample(resample(clean, RATE, recorded_rate), recorded_rate, RATE)[: len(clean)]
        kept_db.append(highs_kept_db(clean, enhancer.enhance(clean, RATE)))
    assert np.mean(kept_db) > -2  # models that did: -3 and -6 dB


def test_checkpoint_is_the_exported_model(name):
    system, settings = load_checkpoint(CHECKPOINTS[name])
    enhancer = sottovoce.load(name)
    assert parse_settings(enhancer.model.metadata.settings, "metadata") == settings
    _, noisy = pair("fileid_0007")
    noisy = noisy[: 4 * RATE]
    expected = without_warm_up(enhancer, noisy)
    enhanced = system.enhance(torch.from_numpy(noisy)[None])[0].numpy()
    # The checkpoint is stored at half precision: 40 dB below the signal is more than its rounding and less than
    # what any other training would give.
    assert np.mean((enhanced - expected) ** 2) < 1e-4 * np.mean(expected**2)


def test_bundled_model_is_the_system_of_its_name(name):
    metadata = sottovoce.load(name).model.metadata
    settings = load_settings(find_settings(name))
    bundled = parse_settings(metadata.settings, "metadata")
    assert bundled.model == settings.model
    assert bundled.frontend == settings.frontend
    assert metadata.delay_frames == 0
    assert metadata.licence
    assert metadata.training_data
    # Paths of the machine on which it was trained are nobody's business.
    assert " /" not in metadata.command


def test_bundled_files_are_small(name):
    # They are part of every download: weights of a million parameters at most.
    assert MODELS[name].stat().st_size < 4_500_000
    assert CHECKPOINTS[name].stat().st_size < 4_500_000


@pytest.mark.parametrize(("name", "milliseconds"), [("default", 32), ("live", 16)])
def test_costs_and_latency_keep_their_limits(name, milliseconds):
    metadata = sottovoce.load(name).model.metadata
    assert 1000 * metadata.latency_seconds <= milliseconds
    assert metadata.parameters <= 1_000_000
    assert metadata.multiply_adds_per_second <= 80e6
