import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

# DNSMOS repeats short signals to at least 9.01 s: half and quarter of 9.6 s are rated as one segment, which is quick.
LENGTH = 76_800
PAIRS = Path(__file__).parents[2] / "examples" / "pairs"


@pytest.fixture(scope="session")
def pairs():
    """Folder of the five bundled pairs."""
    return PAIRS


@pytest.fixture(scope="session")
def reference_scores():
    """Scores of the noisy side of the bundled pairs by file name."""
    with (PAIRS / "reference_scores.csv").open(encoding="utf-8", newline="") as file:
        return {row.pop("file"): {name: float(value) for name, value in row.items()} for row in csv.DictReader(file)}


@pytest.fixture(scope="session")
def clean():
    return sf.read(PAIRS / "clean" / "fileid_0016.flac", dtype="float32")[0][:LENGTH]


@pytest.fixture(scope="session")
def noisy():
    return sf.read(PAIRS / "noisy" / "fileid_0016.flac", dtype="float32")[0][:LENGTH]


@pytest.fixture
def folders(tmp_path, clean, noisy):
    """Two short recordings `a` and `deep/b` in clean/, noisy/ and enhanced/."""
    enhanced = clean + np.float32(0.3) * (noisy - clean)
    for name, signal in (("clean", clean), ("noisy", noisy), ("enhanced", enhanced)):
        (tmp_path / name / "deep").mkdir(parents=True)
        sf.write(tmp_path / name / "a.wav", signal[: LENGTH // 2], 16_000, subtype="FLOAT")
        sf.write(tmp_path / name / "deep" / "b.wav", signal[LENGTH // 2 :], 16_000, subtype="FLOAT")
    return tmp_path
