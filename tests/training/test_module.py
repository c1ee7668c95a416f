import dataclasses
import itertools
from typing import get_args

import numpy as np
import pytest
import torch

from sottovoce.config import SpeechPart
from sottovoce.objectives.joint import UnpairedTensors
from sottovoce.training.module import TrainingModule
from sottovoce.training.run import untrained
from sottovoce.training.stages import joint_stages

from .conftest import tiny


def module_of(settings, stage):
    model = untrained(settings)
    (wanted,) = (each for each in joint_stages(model, settings) if each.name == stage)
    return TrainingModule(model, wanted, settings.training)


def batch(seed=0):
    rng = np.random.default_rng(seed)
    return UnpairedTensors(
        *(torch.from_numpy(0.1 * rng.standard_normal((2, 4000)).astype(np.float32)) for _ in "smnptr"),
        simulated_rooms=torch.zeros(2, 2),
    )


def states(parts):
    return [{name: value.clone() for name, value in part.state_dict().items()} for part in parts]


def equal(one, other):
    return [all(torch.equal(a[name], b[name]) for name in a) for a, b in zip(one, other, strict=True)]


def take_steps(module, count):
    optimiser = module.configure_optimizers()["optimizer"]
    module.train()
    for step in range(count):
        loss = module.stage.loss(module.stage.terms(batch(step), torch.Generator().manual_seed(step)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def test_the_speech_autoencoder_is_frozen_in_the_joint_stage():
    module = module_of(tiny(), "joint")
    frozen, trained = module.network.speech_parts(), module.network.mixture_parts()
    before_frozen, before_trained = states(frozen), states(trained)
    take_steps(module, 3)
    assert all(equal(before_frozen, states(frozen)))
    assert not any(equal(before_trained, states(trained)))
    assert not any(part.training for part in frozen)
    assert all(part.training for part in trained)
    assert not any(parameter.requires_grad for part in frozen for parameter in part.parameters())


def test_the_speech_stage_trains_nothing_else():
    module = module_of(tiny(), "speech")
    trained, others = module.network.speech_parts(), module.network.mixture_parts()
    before_trained, before_others = states(trained), states(others)
    take_steps(module, 2)
    assert not any(equal(before_trained, states(trained)))
    assert all(equal(before_others, states(others)))


JOINT_LEARNING = {
    "all of it": {},
    "the shared layer alone from mixtures": {"from_mixtures": ["shared"]},
    "clean speech alone": {"from_mixtures": []},
}


@pytest.mark.parametrize("learning", JOINT_LEARNING.values(), ids=JOINT_LEARNING)
def test_both_autoencoders_learn_in_the_joint_stage_where_they_are_to(learning):
    module = module_of(tiny(joint_learning=learning), "joint")
    network = module.network
    parts = [*network.speech_parts(), *network.mixture_parts()]
    before = states(parts)
    take_steps(module, 2)
    assert not any(equal(before, states(parts)))
    assert all(part.training for part in parts)


def gradients_of_mixtures(learning):
    """Names of the speech autoencoder's parts to which the terms of noisy clips give gradients, and all terms."""
    module = module_of(tiny(joint_learning=learning), "joint")
    terms = module.stage.terms(batch(), torch.Generator().manual_seed(0))
    sum(term for name, term in terms.items() if not name.startswith("speech_")).backward()
    names = [name for name in get_args(SpeechPart) if next(getattr(module.network, name).parameters()).grad is not None]
    # What passes through a part reaches those behind it all the same.
    assert next(module.network.mixture_encoder.parameters()).grad.abs().max() > 0
    return names, set(terms)


def test_noisy_clips_train_the_wanted_parts_of_the_speech_autoencoder_alone():
    every = ["speech_encoder", "shared", "amplitude_decoder"]  # no noisy clip passes D_P where there is a mask
    assert gradients_of_mixtures({})[0] == every
    for parts in ([], ["shared"], ["speech_encoder", "amplitude_decoder"]):
        names, terms = gradients_of_mixtures({"from_mixtures": parts})
        assert names == parts
        assert {"speech_amplitude", "speech_phase", "mixture_amplitude", "cycle"} <= terms


def test_the_gradients_of_the_autoencoders_add_up():
    """The loss of joint learning is that of the speech stage plus that of the joint stage."""
    jointly, apart = (module_of(tiny(joint_learning=learning), "joint") for learning in ({}, None))
    generator = torch.Generator().manual_seed(0)
    loss = jointly.stage.loss(jointly.stage.terms(batch(), generator))
    speech = module_of(tiny(), "speech")
    generator = torch.Generator().manual_seed(0)
    expected = speech.stage.loss(speech.stage.terms(batch(), generator))
    expected = expected + apart.stage.loss(apart.stage.terms(batch(), generator))
    torch.testing.assert_close(loss, expected)


def test_the_speech_autoencoder_may_learn_more_slowly():
    module = module_of(tiny(joint_learning={"rate": 0.25}), "joint")
    optimiser = module.configure_optimizers()["optimizer"]
    fast, slow = optimiser.param_groups
    assert slow["lr"] == pytest.approx(0.25 * fast["lr"])
    of_speech = {parameter for part in module.network.speech_parts() for parameter in part.parameters()}
    assert set(slow["params"]) == of_speech
    assert not of_speech & set(fast["params"])


def test_clean_and_noisy_clips_may_take_turns():
    module = module_of(tiny(joint_learning={"alternate": True}), "joint")
    kinds = []
    for seed in range(12):
        terms = module.stage.terms(batch(), torch.Generator().manual_seed(seed))
        kinds.append({name.startswith("speech_") for name in terms})
        assert torch.isfinite(module.stage.loss(terms))
    assert {True} in kinds
    assert {False} in kinds
    assert {True, False} not in kinds


def rates_of(settings, stage, count):
    """Learning rates of the first `count` steps."""
    configured = module_of(settings, stage).configure_optimizers()
    optimiser, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    assert configured["lr_scheduler"]["interval"] == "step"
    rates = []
    for _ in range(count):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    return rates


OPTIMISER = {"learning_rate": 1e-2, "final_learning_rate": 1e-4, "warmup_steps": 10}


def test_the_learning_rate_rises_and_falls():
    rates = rates_of(tiny(speech_steps=100, optimiser=OPTIMISER), "speech", 120)
    assert rates[:10] == pytest.approx([1e-3 * (step + 1) for step in range(10)])
    assert rates[10] == pytest.approx(1e-2)
    assert rates[55] == pytest.approx((1e-2 + 1e-4) / 2)
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[10:101]))
    assert rates[100:] == pytest.approx([1e-4] * 20)


def test_without_warm_up_the_first_rate_is_the_highest():
    settings = tiny(optimiser={"learning_rate": 1e-3, "final_learning_rate": 1e-3, "betas": [0.5, 0.999]})
    optimiser = module_of(settings, "joint").configure_optimizers()["optimizer"]
    assert optimiser.param_groups[0]["lr"] == 1e-3
    assert optimiser.param_groups[0]["betas"] == (0.5, 0.999)


def test_random_numbers_depend_on_seed_stage_and_step_alone(monkeypatch):
    seen = []

    def loss(stage="joint", seed=1, step=0):
        module = module_of(tiny(seed=seed), stage)
        monkeypatch.setattr(TrainingModule, "global_step", property(lambda _: step))
        monkeypatch.setattr(module, "log_dict", lambda values: None)
        terms = module.stage.terms

        def spy(batch, generator):
            seen.append(generator.initial_seed())
            return terms(batch, generator)

        module.stage = dataclasses.replace(module.stage, terms=spy)
        return module.training_step(batch(), 99)["loss"].item()

    first = loss()
    torch.rand(10)  # Whatever else draws numbers does not matter.
    assert loss() == first
    assert len({first, loss(step=1), loss(seed=2), loss(step=2)}) == 4
    loss(stage="speech")
    assert seen[0] == seen[1]
    assert len(set(seen)) == len(seen) - 1


def test_what_is_logged_has_the_stage_in_its_name(monkeypatch):
    module, logged = module_of(tiny(), "joint"), {}
    monkeypatch.setattr(module, "log_dict", logged.update)
    loss = module.training_step(batch(), 0)["loss"]
    assert loss.requires_grad
    assert logged["joint/total"].item() == loss.item()
    assert {"joint/cycle", "joint/mixture_amplitude", "joint/silence", "joint/simulated_complex"} <= set(logged)
    assert not any(value.requires_grad for value in logged.values())


def test_stages_follow_each_other():
    settings = tiny(speech_steps=3, joint_steps=4)
    stages = joint_stages(untrained(settings), settings)
    assert [(stage.name, stage.number, stage.first_step, stage.steps, stage.purpose) for stage in stages] == [
        ("speech", 0, 0, 3, "speech"),
        ("joint", 1, 3, 4, "joint"),
    ]
