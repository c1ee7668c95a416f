"""Latents of both encoders: how close a mixture comes to its own words, as numbers and as pictures."""

import math

import numpy as np
import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("scipy")

from tests.data.synthetic import write as write_wav

from sottovoce.models.checkpoint import save_checkpoint
from sspd2023.latents import Latents, study, table, write
from sspd2023.protocol import TestMixture as Mixture

from .systems import build, small_experiment

RNG = np.random.default_rng(0)
SPEECH = RNG.standard_normal((200, 3))


def test_equal_latents_have_no_distance():
    latents = Latents(SPEECH, SPEECH)
    assert latents.distance_to(SPEECH) == 0
    assert latents.correlation == pytest.approx(1)


def test_the_mean_of_speech_has_the_distance_one():
    latents = Latents(SPEECH, np.broadcast_to(SPEECH.mean(axis=0), SPEECH.shape))
    assert latents.distance_to(SPEECH) == pytest.approx(1)
    assert math.isnan(latents.correlation)


def test_scale_and_offset_are_a_distance_but_no_lack_of_correlation():
    latents = Latents(SPEECH, 2 * SPEECH + 1)
    assert latents.correlation == pytest.approx(1)
    assert latents.distance_to(SPEECH) > 1.5


def test_dimensions_that_do_not_vary_are_left_out_of_the_correlation():
    dead = np.ones((200, 1))
    latents = Latents(np.hstack([SPEECH, dead]), np.hstack([SPEECH, dead]))
    assert latents.correlation == pytest.approx(1)
    assert math.isnan(Latents(dead, dead).distance_to(dead))


def test_other_speech_is_farther_where_the_words_are_known():
    latents = [Latents(each, each + 0.1) for each in RNG.standard_normal((4, 100, 3))]
    (_, row) = table({"joint": latents}, {"joint": "joint (poster)"})
    own, other = (float(cell.split(" ")[0]) for cell in row[1:3])
    assert row[0] == "joint (poster)"
    assert own < 0.05
    assert other > 1


def test_a_trained_system_becomes_a_page(tmp_path):
    settings = small_experiment()
    save_checkpoint(tmp_path / "joint.safetensors", build(settings), settings)
    tests = []
    for number in range(3):
        for kind in ("noisy", "clean"):
            write_wav(tmp_path / f"{kind}{number}.wav", RNG.uniform(-0.1, 0.1, 4000).astype(np.float32))
        tests.append(Mixture(str(number), tmp_path / f"noisy{number}.wav", tmp_path / f"clean{number}.wav", 0.0))
    latents = study(tests, {"joint": tmp_path / "joint.safetensors"})
    assert len(latents["joint"]) == 3
    assert latents["joint"][0].speech.shape == latents["joint"][0].mixture.shape
    assert not np.array_equal(latents["joint"][0].speech, latents["joint"][1].speech)
    page, figure = write({"poster": latents}, {"joint": "joint (poster)"}, ["What was run."], tmp_path)
    assert "| joint (poster) |" in page.read_text(encoding="utf-8")
    assert figure.stat().st_size > 5000
