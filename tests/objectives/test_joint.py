"""The objectives of both stages: which terms, with which weight, and where their gradients go."""

import numpy as np
import pytest
import torch

from sottovoce.config import JointWeights, SpeechWeights
from sottovoce.models.frontend import phasor
from sottovoce.objectives import joint as joint_objective
from sottovoce.objectives.joint import Objective, UnpairedTensors, total
from sottovoce.objectives.phase import phase_error

from ..systems import build, small_settings, speech

SAMPLES = 3200


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def clips(count, kind="clean", first=0):
    return torch.from_numpy(
        np.stack(
            [speech(SAMPLES / 16000, start_seconds=1 + (first + index) * 0.7, kind=kind) for index in range(count)]
        )
    )


def batch(noise=2, simulated=2, gain=1.0):
    hiss = 0.01 * torch.from_numpy(np.random.default_rng(0).standard_normal((3, SAMPLES)).astype(np.float32))
    targets = clips(simulated, first=3) if simulated else torch.zeros(0, SAMPLES)
    tensors = UnpairedTensors(
        speech=clips(2),
        mixtures=clips(2, "noisy"),
        noise=hiss[:noise],
        simulated_mixtures=targets + hiss[2:],
        simulated_targets=targets,
        simulated_reverberant=0.9 * targets,
        simulated_rooms=torch.zeros(simulated, 2),
    )
    return UnpairedTensors(*(gain * part for part in tensors))


def weighted(weights):
    return {name for name, value in weights if value}


ALL_SPEECH = SpeechWeights(multi_resolution=1.0, consistency=1.0)
ALL_JOINT = JointWeights(**dict.fromkeys(JointWeights.model_fields, 1.0))


def train_joint_stage(system):
    """Freeze what the joint stage freezes."""
    system.train()
    for part in system.speech_parts():
        part.requires_grad_(False)
        part.eval()
    return system


def test_total_is_the_weighted_sum():
    terms = {"amplitude": torch.tensor(2.0), "phase": torch.tensor(3.0), "prior": torch.tensor(float("nan"))}
    weights = SpeechWeights(amplitude=1.0, phase=0.5, prior=0.0)
    # What has no weight does not count, not even when it is not a number.
    assert float(total(terms, weights.model_dump()).detach()) == pytest.approx(3.5)


def test_speech_stage_gives_every_weighted_term():
    settings = small_settings()
    system, objective = build(settings), Objective(settings.frontend)
    for weights in (settings.speech_weights, ALL_SPEECH):
        terms = objective.speech(system, clips(2), weights, generator())
        assert weighted(weights) <= set(terms) <= set(SpeechWeights.model_fields)
        assert all(term.ndim == 0 and torch.isfinite(term) and term >= 0 for term in terms.values())
        expected = sum(getattr(weights, key) * float(term.detach()) for key, term in terms.items())
        assert float(total(terms, weights.model_dump()).detach()) == pytest.approx(expected, rel=1e-5)


def test_joint_stage_gives_every_weighted_term():
    settings = small_settings()
    system, objective = build(settings), Objective(settings.frontend)
    for weights in (settings.joint_weights, ALL_JOINT):
        terms = objective.joint(system, batch(), weights, generator())
        assert weighted(weights) <= set(terms) <= set(JointWeights.model_fields)
        assert all(term.ndim == 0 and torch.isfinite(term) for term in terms.values())
        # An error in dB below the speech is negative; everything else is a distance.
        assert all(term >= 0 for key, term in terms.items() if key != "simulated_snr")
        expected = sum(getattr(weights, key) * float(term.detach()) for key, term in terms.items())
        assert float(total(terms, weights.model_dump()).detach()) == pytest.approx(expected, rel=1e-5)


def test_costly_terms_without_weight_are_not_computed(monkeypatch):
    def refuse(*_):
        raise AssertionError("computed")

    for name in ("multi_resolution", "consistency", "phase_error", "silence", "complex_reconstruction"):
        monkeypatch.setattr(joint_objective, name, refuse)
    settings = small_settings()
    system, objective = build(settings), Objective(settings.frontend)
    monkeypatch.setattr(system, "recompute", refuse)
    terms = objective.speech(system, clips(1), SpeechWeights(phase=0.0), generator())
    assert set(terms) == {"amplitude", "prior"}
    alone = JointWeights(cycle=0.0, latent_consistency=0.0, silence=0.0)
    terms = objective.joint(system, batch(), alone, generator())
    assert set(terms) == {"mixture_amplitude", "prior"}


def test_clips_that_are_not_there_make_no_terms():
    settings = small_settings()
    terms = Objective(settings.frontend).joint(build(settings), batch(noise=0, simulated=0), ALL_JOINT, generator())
    assert "silence" not in terms
    assert not any(name.startswith("simulated_") for name in terms)
    assert torch.isfinite(total(terms, ALL_JOINT.model_dump()))


def test_the_same_generator_gives_the_same_terms():
    settings = small_settings()
    system, objective = build(settings), Objective(settings.frontend)
    first, again, other = (objective.speech(system, clips(2), ALL_SPEECH, generator(seed)) for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["amplitude"], other["amplitude"])


def test_speech_stage_trains_the_speech_parts():
    settings = small_settings()
    system = build(settings).train()
    total(
        Objective(settings.frontend).speech(system, clips(2), ALL_SPEECH, generator()), ALL_SPEECH.model_dump()
    ).backward()
    for part in system.speech_parts():
        assert any(parameter.grad is not None and parameter.grad.any() for parameter in part.parameters())
    assert all(parameter.grad is None for part in system.mixture_parts() for parameter in part.parameters())


@pytest.mark.parametrize("term", ["cycle", "latent_consistency", "silence", "simulated_magnitude", "simulated_latent"])
def test_gradients_pass_through_the_frozen_speech_parts(term):
    settings = small_settings()
    system = train_joint_stage(build(settings))
    terms = Objective(settings.frontend).joint(system, batch(), ALL_JOINT, generator())
    # Each of these depends on the mixture encoder through G or the decoders of speech alone.
    terms[term].backward()
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in system.mixture_encoder.parameters())
    assert all(parameter.grad is None for part in system.speech_parts() for parameter in part.parameters())


def test_joint_stage_leaves_the_frozen_parts_as_they_are():
    settings = small_settings()
    system = train_joint_stage(build(settings))
    before = [{key: value.clone() for key, value in part.state_dict().items()} for part in system.speech_parts()]
    Objective(settings.frontend).joint(system, batch(), ALL_JOINT, generator())
    for part, old in zip(system.speech_parts(), before, strict=True):
        assert all(torch.equal(value, old[key]) for key, value in part.state_dict().items())


@pytest.mark.parametrize("gain", [0.0, 1e-6])
def test_gradients_in_silence_are_finite(gain):
    settings = small_settings()
    objective = Objective(settings.frontend)
    system = build(settings).train()
    silent = batch(gain=gain)
    total(objective.speech(system, silent.speech, ALL_SPEECH, generator()), ALL_SPEECH.model_dump()).backward()
    total(objective.joint(train_joint_stage(system), silent, ALL_JOINT, generator()), ALL_JOINT.model_dump()).backward()
    gradients = [parameter.grad for parameter in system.parameters() if parameter.grad is not None]
    assert len(gradients) > 10
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_speech_encoder_is_given_disturbed_phases(monkeypatch):
    settings = small_settings()
    system, received = build(settings), []
    encode = system.encode_speech
    monkeypatch.setattr(system, "encode_speech", lambda spectra: (received.append(spectra), encode(spectra))[1])
    waveforms = clips(2)
    Objective(settings.frontend).speech(system, waveforms, ALL_SPEECH, generator())
    clean = system.stft.analyse(waveforms)
    size, disturbed_size = (torch.linalg.vector_norm(spectra, dim=1) for spectra in (clean, received[0]))
    # A clip's amplitudes are the clean ones up to the running level, which all bins of a frame share.
    ratio = (disturbed_size / size)[size > 1e-4]
    frames = (disturbed_size / size).median(dim=1, keepdim=True).values.expand_as(size)[size > 1e-4]
    torch.testing.assert_close(ratio, frames, rtol=1e-2, atol=0)
    # Phases are not: that is what a decoder of phase corrects.
    away = 1 - (phasor(clean) * phasor(received[0])).sum(dim=1)
    assert away.mean() > 0.05


def test_no_correction_of_the_phase_leaves_an_error():
    # With clean phases at the input, a decoder that always says "no correction" would already be right.
    settings = small_settings(model={"latent_noise": 0.0})
    system = build(settings)
    bins = system.bins
    with torch.no_grad():
        system.phase_decoder.output.conv.weight.zero_()
        system.phase_decoder.output.conv.bias.copy_(torch.cat([torch.ones(bins), torch.zeros(bins)]))
        # Loud everywhere, so that every bin has a phase.
        system.amplitude_decoder.output.conv.bias += 5
        terms = Objective(settings.frontend).speech(system, clips(2), ALL_SPEECH, generator())
        spectra = system.stft.analyse(clips(2))[:, :, :bins]
        perfect = phase_error(phasor(spectra), phasor(spectra), system.compressed(spectra))
    assert float(perfect) == pytest.approx(0, abs=1e-6)
    assert float(terms["phase"]) > 1e-2


def test_levels_of_the_speech_stage_lie_below_those_of_mixtures(monkeypatch):
    settings = small_settings()
    system, received = build(settings), []
    encode = system.encode_speech
    monkeypatch.setattr(system, "encode_speech", lambda spectra: (received.append(spectra), encode(spectra))[1])
    waveforms = clips(1).expand(40, -1)
    Objective(settings.frontend).speech(system, waveforms, ALL_SPEECH, generator())
    power = received[0].square().sum(dim=(1, 2, 3))
    below_db = 10 * torch.log10(power.max() / power)
    # Up to 12 dB of speech level are given to the noise that a mixture would hold.
    assert 8 < float(below_db.max()) <= 12.01


def test_simulated_mixtures_compare_with_their_own_speech():
    settings = small_settings()
    system, objective = build(settings), Objective(settings.frontend)
    tensors = batch()
    # The clean speech of simulated pairs also stands for what latents of clean speech look like.
    weights = ALL_JOINT.model_copy(update={"alignment": 0.0})
    right = objective.joint(system, tensors, weights, generator())
    wrong = objective.joint(
        system,
        tensors._replace(
            simulated_targets=tensors.simulated_targets.flip(-1),
            simulated_reverberant=tensors.simulated_reverberant.flip(-1),
        ),
        weights,
        generator(),
    )
    names = [name for name in right if name.startswith("simulated_")]
    assert names == [name for name in JointWeights.model_fields if name.startswith("simulated_")]
    assert all(not torch.equal(right[name], wrong[name]) for name in names)
    assert all(torch.equal(right[name], wrong[name]) for name in set(right) - set(names))


def test_silence_looks_at_noise_clips_only():
    settings = small_settings()
    system, objective = build(settings), Objective(settings.frontend)
    tensors = batch()
    first = objective.joint(system, tensors, ALL_JOINT, generator())
    # The system has no state between clips, so other mixtures do not change what becomes of the noise.
    other = objective.joint(system, tensors._replace(mixtures=tensors.mixtures.flip(-1)), ALL_JOINT, generator())
    torch.testing.assert_close(first["silence"], other["silence"])
    assert not torch.equal(first["mixture_amplitude"], other["mixture_amplitude"])


def test_masks_of_the_pretask_are_those_of_noise_and_room():
    """What the decoder would have to give: nothing to take away gives masks of 1, silent speech masks of 0."""
    settings = small_settings()
    system, objective = build(settings), Objective(settings.frontend)
    tensors = batch()

    def errors(masks, **parts):
        system.decode_masks = lambda latent: [
            torch.full((len(latent), system.bins, latent.shape[-1]), m) for m in masks
        ]
        terms = objective.joint(system, tensors._replace(**parts), ALL_JOINT, generator())
        return [float(terms[name].detach()) for name in ("simulated_ratio_mask", "simulated_dereverberation_mask")]

    mixtures = tensors.simulated_mixtures
    assert errors((1.0, 1.0), simulated_targets=mixtures, simulated_reverberant=mixtures) == pytest.approx(
        [0, 0], abs=1e-3
    )
    silent = torch.zeros_like(mixtures)
    assert errors((0.0, 0.0), simulated_targets=silent, simulated_reverberant=silent) == pytest.approx([0, 0], abs=1e-6)
    # In the room, but without noise: the first mask lets all through, the second takes half away.
    half = errors((1.0, 0.5), simulated_targets=0.5 * mixtures, simulated_reverberant=mixtures)
    assert half == pytest.approx([0, 0], abs=1e-3)


def test_a_system_without_the_pretask_has_no_masks():
    system = build(small_settings(model={"mask_pretask": False}))
    with pytest.raises(ValueError, match="mask_pretask"):
        system.decode_masks(torch.zeros(1, 8, 4))
