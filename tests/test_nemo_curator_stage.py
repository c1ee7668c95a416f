"""The stage of NeMo Curator: a task leaves it with the enhanced recording, or with a sentence."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

EXAMPLE = Path(__file__).parents[1] / "examples" / "nemo_curator_stage.py"

pytestmark = pytest.mark.filterwarnings("ignore")  # those of what it imports


def test_a_task_goes_through_the_stage(tmp_path, identity_model):
    pytest.importorskip("nemo_curator", reason="nemo-curator is not installed")
    from nemo_curator.tasks import AudioTask

    spec = importlib.util.spec_from_file_location("nemo_curator_stage", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        sf.write(tmp_path / folder / "a.wav", 0.1 * np.sin(np.arange(8000) / 5), 16000)
    (tmp_path / "bad.wav").write_text("no sound")
    stage = example.EnhanceStage(output=str(tmp_path / "out"), model=str(identity_model))
    stage.setup()
    paths = [str(tmp_path / name) for name in ("one/a.wav", "two/a.wav", "bad.wav", "one/a.wav")]
    tasks = [AudioTask(data={"audio_filepath": path, "text": "words"}) for path in paths]
    assert all(stage.validate_input(task) for task in tasks)
    found = [stage.process(task).data for task in tasks]
    assert [data["original_filepath"] for data in found] == paths
    assert found[0]["audio_filepath"] == found[3]["audio_filepath"] != found[1]["audio_filepath"]
    assert [data["enhance_error"] is None for data in found] == [True, True, False, True]
    assert "bad.wav" in found[2]["enhance_error"]
    assert found[2]["audio_filepath"] == paths[2]
    assert sf.info(found[1]["audio_filepath"]).frames == 8000
    assert {data["text"] for data in found} == {"words"}
