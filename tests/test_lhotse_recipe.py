"""The Lhotse recipe: a corpus goes through an archive, and its ids and lengths stay."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from sottovoce.archive import run
from sottovoce.archive.manifest import Manifest
from sottovoce.archive.pool import ThisProcess
from sottovoce.archive.run import enhance_archive

EXAMPLE = Path(__file__).parents[1] / "examples" / "lhotse_recipe.py"

pytestmark = pytest.mark.filterwarnings("ignore")  # those of lhotse and what it imports


def test_a_corpus_of_lhotse(tmp_path, identity, monkeypatch):
    lhotse = pytest.importorskip("lhotse", reason="lhotse is not installed")
    monkeypatch.setattr(run, "Workers", ThisProcess)
    (tmp_path / "corpus").mkdir()
    names = ["a", "b"]
    for number, name in enumerate(names):
        samples = 0.1 * np.sin(np.arange(16000 + 1000 * number) / 5)
        sf.write(tmp_path / "corpus" / f"{name}.flac", samples, 16000)
    recordings = lhotse.RecordingSet.from_recordings(
        lhotse.Recording.from_file(tmp_path / "corpus" / f"{name}.flac", recording_id=f"talk {name}") for name in names
    )
    recordings.to_file(tmp_path / "recordings.jsonl.gz")

    def recipe(*words):
        subprocess.run([sys.executable, EXAMPLE, *words], check=True, cwd=tmp_path)

    recipe("list", "recordings.jsonl.gz", "manifest")
    summary = enhance_archive(Manifest.open(tmp_path / "manifest"), tmp_path / "out", identity)
    assert summary.enhanced == 2
    recipe("collect", summary.place, "enhanced.jsonl.gz")
    enhanced = {recording.id: recording for recording in lhotse.RecordingSet.from_file(tmp_path / "enhanced.jsonl.gz")}
    for before in recordings:
        after = enhanced[before.id]
        assert (after.duration, after.sampling_rate) == (before.duration, before.sampling_rate)
        np.testing.assert_allclose(after.load_audio(), before.load_audio(), atol=0.02)
        assert after.sources[0].source != before.sources[0].source
