"""Remixed recordings: what is taken apart is put together anew, and doubtful estimates count less."""

import numpy as np
import pytest
import torch

from sottovoce.config import JointWeights
from sottovoce.objectives import joint as joint_objective
from sottovoce.objectives.joint import Objective
from sottovoce.objectives.self_training import Remixed, remix, speech_likeness

from ..systems import build, small_settings, speech
from .test_joint import batch, generator

RATE = 16000


class Halver(torch.nn.Module):
    """A teacher that takes half of everything for speech."""

    def __init__(self, system):
        super().__init__()
        self.system = system

    def __getattr__(self, name):
        return super().__getattr__(name) if name == "system" else getattr(self.system, name)

    def enhance(self, waveform):
        return 0.5 * waveform


@pytest.fixture
def system():
    return build(small_settings())


def clips(*levels):
    rng = np.random.default_rng(0)
    return torch.from_numpy(np.stack([level * rng.standard_normal(1600) for level in levels]).astype(np.float32))


def test_rests_go_to_the_next_recording_and_keep_their_ratio(system):
    mixtures = clips(0.1, 0.01, 0.1)
    remixed = remix(Halver(system), mixtures, clips(0.2)[:0])
    assert remixed.mixtures.shape == remixed.targets.shape == mixtures.shape
    torch.testing.assert_close(remixed.targets, 0.5 * mixtures)
    added = remixed.mixtures - remixed.targets
    for index, recording in enumerate(mixtures):
        other = mixtures[index - 1]
        similarity = torch.nn.functional.cosine_similarity(added[index], other, dim=0)
        assert float(similarity) == pytest.approx(1.0, abs=1e-4)
        # Half of the other recording, as loud beside this one as it was beside its own.
        assert float(added[index].std() / recording.std()) == pytest.approx(0.5, rel=0.01)


def test_clean_speech_gets_rests_too_and_is_believed(system):
    clean = clips(0.2, 0.2, 0.2)
    remixed = remix(Halver(system), clips(0.1, 0.1), clean)
    assert len(remixed.mixtures) == 2 + 2
    torch.testing.assert_close(remixed.targets[2:], clean[:2])
    assert bool((remixed.trust[2:] == 1.0).all())
    assert bool(((remixed.trust >= 0.0) & (remixed.trust <= 1.0)).all())


def test_trust_is_what_the_speech_autoencoder_gives_back(system, monkeypatch):
    waveform = torch.from_numpy(speech(0.5))[None].repeat(3, 1)
    waveform[2] = 0.0

    def decode(_):
        spectra = system.stft.analyse(waveform)
        scaled = system.compressed(spectra / system.level(spectra, joint_objective.Past()))
        return joint_objective.DecodedSpeech(torch.stack([scaled[0], 0.5 * scaled[1], scaled[2]]), None)

    monkeypatch.setattr(system, "decode_speech", decode)
    assert speech_likeness(system, waveform).tolist() == pytest.approx([1.0, 0.75, 0.0], abs=1e-3)


def test_doubtful_targets_count_less(system):
    settings = small_settings()
    objective = Objective(settings.frontend)
    one = clips(0.1)
    losses = [
        float(objective._remixed(system, Remixed(one, 0.5 * one, torch.tensor([trust]))).detach())
        for trust in (1.0, 0.25, 0.0)
    ]
    assert losses[0] > 0
    assert losses[1] == pytest.approx(0.25 * losses[0], rel=1e-3)
    assert losses[2] == pytest.approx(0.0, abs=1e-6)


def test_the_teacher_gets_no_gradient_and_the_student_does(system):
    settings = small_settings()
    teacher = build(settings, seed=1)
    terms = Objective(settings.frontend).joint(system, batch(), JointWeights(remixed=1.0), generator(), teacher=teacher)
    terms["remixed"].backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert any(parameter.grad is not None for parameter in system.mask.parameters())


def test_without_a_teacher_there_is_no_term(system):
    settings = small_settings()
    objective = Objective(settings.frontend)
    assert "remixed" not in objective.joint(system, batch(), JointWeights(remixed=1.0), generator())
