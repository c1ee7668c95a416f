import os
import subprocess
import sys

import pytest
import torch

from images import training
from images.experiment import GAP
from images.noise import Rician
from images.slices import phantom, split
from images.training import JOINT, SYSTEMS, material, stages, train

STEPS = 2, 4
NOISE = Rician()


@pytest.fixture(scope="module")
def learned_from():
    volume = phantom()
    return material(volume, split(volume, GAP), NOISE)


@pytest.fixture(autouse=True)
def checkpoint_at_every_step(monkeypatch):
    monkeypatch.setattr(training, "CHECK_EVERY", 1)


def weights(network):
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def test_what_is_trained_in_each_stage():
    network = SYSTEMS[JOINT].network(1)
    clean, joint = stages(network, SYSTEMS[JOINT].weights, STEPS)
    assert clean.trained == (network.clean_encoder, network.shared, network.clean_decoder)
    assert joint.trained == (network,)
    assert (clean.steps, joint.first_step, joint.steps) == (2, 2, 4)


def test_seeds_begin_differently():
    first, same, other = (weights(SYSTEMS[JOINT].network(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_weights(learned_from, tmp_path):
    expected = train(SYSTEMS[JOINT], learned_from, NOISE, tmp_path / "whole", seed=1, steps=STEPS)
    code = f"""
import os, signal
from pathlib import Path
from images import training
from images.experiment import GAP
from images.noise import Rician
from images.slices import phantom, split
training.CHECK_EVERY = 1
volume = phantom()
found = training.material(volume, split(volume, GAP), Rician())
def show(done, total):
    if done == 4:
        os.kill(os.getpid(), signal.SIGKILL)
out = Path({str(tmp_path / "cut")!r})
training.train(training.SYSTEMS["joint"], found, Rician(), out, seed=1, steps={STEPS}, on_progress=show)
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, check=False, timeout=120
    )
    assert process.returncode == -9, process.stderr
    assert not list((tmp_path / "cut" / "stages" / "joint").glob("finished.pt"))
    seen = []
    resumed = train(
        SYSTEMS[JOINT],
        learned_from,
        NOISE,
        tmp_path / "cut",
        seed=1,
        steps=STEPS,
        on_progress=lambda done, total: seen.append(done),
    )
    assert seen[0] >= 3  # neither the first stage nor what of the second is saved is done again
    assert torch.equal(weights(resumed), weights(expected))
    assert not resumed.training
