"""The bundled model is the one that was measured: its scores on the five pairs of `examples/` are stored.

After a new default model, write them anew, from the root of the repository, and look at the difference:

    python -c "
    import json, pathlib, sys
    sys.path.insert(0, '.')
    from tests.test_default_model import GOLDEN, measure
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(json.dumps(measure(), indent=2) + '\\\\n', encoding='utf-8')
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
from sottovoce.weights import CHECKPOINTS, MODELS

GOLDEN = Path(__file__).parent / "golden" / "default_model.json"
PAIRS = Path(__file__).parents[1] / "examples" / "pairs"
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


def measure():
    """Score what the bundled model makes of the pairs."""
    enhancer = sottovoce.load()
    scores = {}
    for path in sorted((PAIRS / "noisy").glob("*.flac")):
        clean, noisy = pair(path.stem)
        enhanced = enhancer.enhance(noisy, RATE)
        scores[path.stem] = {
            "si_sdr_db": round(si_sdr(clean, enhanced), 4),
            "pesq_wb": round(pesq(clean, enhanced), 4),
        }
    return scores


@pytest.fixture(scope="module")
def measured():
    return measure()


def test_scores_are_the_stored_ones(measured):
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert len(golden) == 5
    assert measured.keys() == golden.keys()
    for name, scores in golden.items():
        for measure_name, tolerance in TOLERANCE.items():
            assert measured[name][measure_name] == pytest.approx(scores[measure_name], abs=tolerance), name


def test_enhanced_is_better_than_noisy(measured):
    # The reference of 0007 holds the reverberation of its room, which the model takes away: it is measured, not judged.
    measured = {name: scores for name, scores in measured.items() if name != "fileid_0007"}
    gains = {measure_name: [] for measure_name in TOLERANCE}
    for name, scores in measured.items():
        clean, noisy = pair(name)
        gains["si_sdr_db"].append(scores["si_sdr_db"] - si_sdr(clean, noisy))
        gains["pesq_wb"].append(scores["pesq_wb"] - pesq(clean, noisy))
    assert np.mean(gains["si_sdr_db"]) > 2
    assert np.mean(gains["pesq_wb"]) > 0.05


def test_checkpoint_is_the_exported_model():
    system, settings = load_checkpoint(CHECKPOINTS["default"])
    enhancer = sottovoce.load()
    assert parse_settings(enhancer.model.metadata.settings, "metadata") == settings
    _, noisy = pair("fileid_0007")
    noisy = noisy[: 4 * RATE]
    expected = enhancer.enhance(noisy, RATE)
    enhanced = system.enhance(torch.from_numpy(noisy)[None])[0].numpy()
    # The checkpoint is stored at half precision: 40 dB below the signal is more than its rounding and less than
    # what any other training would give.
    assert np.mean((enhanced - expected) ** 2) < 1e-4 * np.mean(expected**2)


def test_bundled_model_is_the_default_system():
    metadata = sottovoce.load().model.metadata
    settings = load_settings(find_settings("default"))
    bundled = parse_settings(metadata.settings, "metadata")
    assert bundled.model == settings.model
    assert bundled.frontend == settings.frontend
    assert metadata.delay_frames == 0
    assert metadata.licence
    assert metadata.training_data
    # Paths of the machine on which it was trained are nobody's business.
    assert " /" not in metadata.command


def test_bundled_files_are_small():
    # They are part of every download: weights of a million parameters at most.
    assert MODELS["default"].stat().st_size < 4_500_000
    assert CHECKPOINTS["default"].stat().st_size < 4_500_000
