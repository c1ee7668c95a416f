import dataclasses
import math

import numpy as np
import pytest
import torch

from images import experiment
from images.experiment import Experiment, Result, cases, conduct, denoise, from_csv, split, to_csv
from images.noise import NOISES, Poisson, Rician
from images.scores import UNDEFINED, Scores, score
from images.slices import phantom
from images.training import SYSTEMS
from sottovoce.errors import DataError

RICIAN = Rician()


@pytest.fixture(scope="module")
def network():
    return SYSTEMS["joint"].network(1).eval()


@pytest.fixture(scope="module")
def image():
    return phantom()[56]


@pytest.mark.parametrize("noise", NOISES, ids=lambda noise: noise.name)
def test_images_of_another_size_are_denoised(network, noise, image):
    measured = noise.measure(noise.clean(image), noise.levels[0], np.random.default_rng(0))
    for part in (measured, measured[:65, :70]):
        denoised = denoise(network, part, noise)
        assert denoised.shape == part.shape
        assert denoised.min() >= 0


def test_units_do_not_matter(network, image):
    measured = RICIAN.measure(image, 0.1, np.random.default_rng(0))
    np.testing.assert_allclose(
        denoise(network, 1000 * measured, RICIAN), 1000 * denoise(network, measured, RICIAN), rtol=1e-3, atol=1e-2
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda image: image[:20], "found slices of 20 x 96 pixels in the image, expected at least 64 x 64"),
        (lambda image: 0 * image, "found the value 0 everywhere in the image, expected an image"),
        (lambda image: np.where(image > 0.6, np.nan, image), "in the image that are not finite, expected none"),
        (lambda image: image[None], "found an image of 3 axes, expected"),
    ],
)
def test_what_cannot_be_denoised_is_refused_in_one_sentence(network, image, change, sentence):
    with pytest.raises(DataError, match=sentence):
        denoise(network, change(image), RICIAN)


def test_a_training_that_diverged_has_no_scores(image):
    network = SYSTEMS["joint"].network(1).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(math.nan)
    (case, *_) = cases(image[None], [0], RICIAN)
    assert experiment.scored(denoise(network, case.measured, RICIAN), case, RICIAN) is UNDEFINED


def test_test_slices_are_measured_at_every_level(image):
    found = cases(np.stack([image, image]), [0, 1], Poisson())
    assert [(case.level, case.position) for case in found] == [
        (level, position) for level in Poisson().levels for position in (0, 1)
    ]
    assert not np.array_equal(found[0].measured, found[1].measured)  # the slice is the same, its noise is not


def test_results_come_back():
    results = [
        Result("Rician", 0.05, "joint", 2, "slices", 7, Scores(30.25, 0.5, 31.125)),
        Result("Poisson", 200.0, "wavelets", None, "unseen", 1, UNDEFINED),
    ]
    first, second = from_csv(to_csv(results))
    assert first == results[0]
    assert dataclasses.replace(second, scores=UNDEFINED) == dataclasses.replace(results[1], scores=UNDEFINED)
    assert all(map(math.isnan, dataclasses.astuple(second.scores)))
    with pytest.raises(DataError, match="found the columns a, b, expected noise, level"):
        from_csv("a,b\n1,2\n")


def test_another_experiment_is_not_mixed_in(tmp_path, monkeypatch):
    monkeypatch.setattr(experiment, "_Bench", None)
    wanted = Experiment(phantom(), "phantom", noises=(), seeds=())
    assert conduct(wanted, tmp_path) == []
    for change in ({"steps": (1, 1)}, {"volume": phantom(seed=1)}):
        with pytest.raises(DataError, match="found an experiment with other slices or steps"):
            conduct(dataclasses.replace(wanted, **change), tmp_path)


def test_scores_look_at_tissue(image):
    pytest.importorskip("skimage")
    tissue = image > 0
    wrong_in_air = np.where(tissue, image + 0.001, 0.5).astype(np.float32)
    assert score(wrong_in_air, image, tissue).psnr_db > 50
    off = np.where(tissue, image - 0.1, 0).astype(np.float32)
    assert score(off, image, tissue).psnr_db == pytest.approx(20, abs=0.2)
    assert score(off, image, tissue).whole_psnr_db > score(off, image, tissue).psnr_db


@pytest.mark.slow
def test_an_experiment_is_finished_once(tmp_path, monkeypatch):
    pytest.importorskip("skimage")
    pytest.importorskip("pywt")
    monkeypatch.setattr(experiment.classical, "STRENGTHS", {"total variation": (0.5, 1.0)})
    wanted = Experiment(phantom(), "phantom", noises=(RICIAN,), systems=("joint",), seeds=(1, 2), steps=(1, 2))
    results = conduct(wanted, tmp_path)
    assert {(result.system, result.seed) for result in results} == {
        ("unprocessed", None),
        ("total variation", None),
        ("joint", 1),
        ("joint", 2),
    }
    parts = split(wanted.volume, experiment.GAP)
    assert {result.position for result in results} <= set(parts.test)
    text = (tmp_path / "results.csv").read_text()
    monkeypatch.setattr(experiment, "train", None)  # nothing is trained again
    conduct(wanted, tmp_path)
    assert (tmp_path / "results.csv").read_text() == text
