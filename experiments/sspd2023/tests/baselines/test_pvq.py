"""P-VQ: causal, quantised, pre-trained on noisy recordings alone, and for signals of any length."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.systems import speech

from sottovoce.config import FrontendSettings
from sottovoce.objectives.joint import UnpairedTensors
from sspd2023.baselines.pvq import PVQ, CausalAttention, MaskedPrediction, VectorQuantiser, WaveformEncoder
from sspd2023.settings import VectorQuantisedSettings

SMALL = VectorQuantisedSettings(channels=4, layers=3, width=16, heads=2, blocks=2, context=8, codes=16)
FRONTEND = FrontendSettings(window=64, hop=32, loss_windows=(64, 32))
HOP = 4**3


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def build(kind=PVQ, *arguments, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return kind(*arguments)


def system(seed=0):
    """Return an untrained P-VQ whose decoder already does something."""
    model = build(PVQ, FRONTEND, SMALL, seed=seed)
    with torch.no_grad():
        model.decoder.layers[-1][-1].weight.normal_(std=0.1, generator=draw())
    return model


def batch(samples=2048, clips=3, seed=0):
    """Return clips of real noisy and clean speech; no part of them is another's."""
    starts = [2.0 + seed + 0.2 * clip for clip in range(clips)]
    noisy, clean = (
        torch.stack([torch.from_numpy(speech(samples / 16000, start, kind)) for start in starts])
        for kind in ("noisy", "clean")
    )
    return UnpairedTensors(clean[:0], noisy.flip(1), noisy[:0], noisy, clean, clean, torch.zeros(len(clean), 2))


@settings(max_examples=25, deadline=None)
@given(clips=st.integers(1, 3), samples=st.integers(1, 1500))
def test_signals_of_any_length_keep_their_shape(clips, samples):
    model = system().eval()
    waveform = torch.randn(clips, samples, generator=draw())
    enhanced = model.enhance(waveform)
    assert enhanced.shape == waveform.shape
    assert torch.isfinite(enhanced).all()
    assert not enhanced.requires_grad
    for features in model.encoder.features(waveform):
        assert features.shape == (clips, SMALL.width, math.ceil(samples / HOP))


def test_features_are_the_last_convolution_and_the_layers_of_the_transformer():
    encoder = build(WaveformEncoder, SMALL)
    waveform = torch.randn(2, 900, generator=draw())
    convolved, *contextual = encoder.features(waveform)
    torch.testing.assert_close(convolved, encoder.convolve(waveform)[-1])
    torch.testing.assert_close(contextual, encoder.contextualise(convolved))
    assert len(contextual) == SMALL.blocks


@settings(max_examples=20, deadline=None)
@given(frame=st.integers(1, 24))
def test_the_encoder_does_not_see_the_future(frame):
    model = system().eval()
    waveform = torch.randn(1, 25 * HOP, generator=draw())
    changed = waveform.clone()
    changed[:, frame * HOP :] = 3.0
    features = zip(model.encoder.features(waveform), model.encoder.features(changed), strict=True)
    for before, after in features:
        torch.testing.assert_close(before[..., :frame], after[..., :frame])
        assert not torch.allclose(before[..., frame], after[..., frame])
    codes = [model.quantiser.nearest(model.spread(w[-1])) for w in map(model.encoder.features, (waveform, changed))]
    assert (codes[0][:, :frame] == codes[1][:, :frame]).all()


def test_the_decoder_waits_for_one_frame_alone():
    model = system().eval()
    waveform = torch.randn(1, 20 * HOP, generator=draw())
    changed = waveform.clone()
    changed[:, 10 * HOP :] = 3.0

    def decode(signal):
        convolved = model.encoder.convolve(signal)
        codes = model.quantiser(model.spread(model.encoder.contextualise(convolved[-1])[-1]))
        return model.decoder(codes, signal, convolved)

    before, after = decode(waveform), decode(changed)
    torch.testing.assert_close(before[:, : 10 * HOP], after[:, : 10 * HOP])
    assert not torch.allclose(before[:, 10 * HOP :], after[:, 10 * HOP :])


@pytest.mark.parametrize("count", [3, 8, 9, 30])
def test_attention_in_pieces_is_attention_under_a_band(count):
    attention = build(CausalAttention, 6, 2, 8)
    frames = torch.randn(2, count, 6, generator=draw())
    query, key, value = attention.project_in(frames).reshape(2, count, 3, 2, 3).permute(2, 0, 3, 1, 4)
    distance = torch.arange(count)[:, None] - torch.arange(count)
    slopes = torch.tensor([2**-4.0, 2**-8.0])[:, None, None]
    scores = query @ key.mT / math.sqrt(3) - slopes * distance
    weights = scores.masked_fill((distance < 0) | (distance >= 8), -math.inf).softmax(dim=-1)
    expected = attention.project_out((weights @ value).transpose(1, 2).flatten(2))
    torch.testing.assert_close(attention(frames), expected)


def test_frames_that_hardly_differ_still_become_different_codes():
    # Batch normalisation stands between the encoder and the codes: without it the commitment would win.
    model = system().train()
    inputs_seen = []
    model.encoder.norm_out.register_forward_hook(lambda _, __, output: 5 + 1e-2 * output)
    model.decoder.register_forward_pre_hook(lambda _, inputs: inputs_seen.append(inputs[0]))
    model.terms(batch(8192), draw())
    assert inputs_seen[0].detach().std(dim=(0, 2)).mean() > 0.5


def test_frames_become_their_nearest_codes():
    quantiser = build(VectorQuantiser, 16, 5, 0.9)
    latent = torch.randn(3, 5, 40, generator=draw())
    distance = torch.cdist(latent.mT.reshape(-1, 5), quantiser.codebook)
    assert (quantiser.nearest(latent).flatten() == distance.argmin(dim=1)).all()
    codes = quantiser(latent)
    assert codes.shape == latent.shape
    torch.testing.assert_close((codes - latent).norm(dim=1).flatten(), distance.amin(dim=1), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(quantiser(codes), codes)


def test_the_gradient_passes_the_codes_straight_through():
    quantiser = build(VectorQuantiser, 16, 5, 0.9)
    latent = torch.randn(3, 5, 40, generator=draw()).requires_grad_()
    weights = torch.randn(3, 5, 40, generator=draw(1))
    (weights * quantiser(latent)).sum().backward()
    torch.testing.assert_close(latent.grad, weights)


def test_the_first_batch_gives_the_codes():
    quantiser = build(VectorQuantiser, 16, 5, 0.9)
    latent = 100 + torch.randn(2, 5, 30, generator=draw())
    quantiser.follow(latent, draw())
    frames = latent.mT.reshape(-1, 5)
    assert (quantiser.codebook[:, None] == frames).all(dim=-1).any(dim=1).all()


def test_codes_move_towards_the_mean_of_their_frames():
    quantiser = build(VectorQuantiser, 2, 1, 0.5)
    quantiser.codebook.copy_(torch.tensor([[0.0], [10.0]]))
    quantiser.use.fill_(2.0)
    quantiser.drawn.fill_(True)
    quantiser.follow(torch.tensor([[[1.0, 3.0, 9.0]]]), draw())
    # Each counts half: two frames of before at 0, and two of now with the mean 2; two at 10 and one at 9.
    torch.testing.assert_close(quantiser.codebook, torch.tensor([[1.0], [(2 * 10 + 9) / 3]]))
    torch.testing.assert_close(quantiser.use, torch.tensor([2.0, 1.5]))


def test_codes_without_use_are_put_where_frames_are():
    quantiser = build(VectorQuantiser, 4, 1, 0.5)
    quantiser.follow(torch.zeros(1, 1, 8), draw())
    quantiser.codebook[1:] = 1e3
    for step in range(20):
        quantiser.follow(torch.zeros(1, 1, 8), draw(step))
    assert quantiser.codebook.abs().max() < 1e-3


def test_only_training_moves_the_codes():
    model = system()
    clips = batch()

    def state():
        return {name: value.clone() for name, value in model.state_dict().items()}

    model.train().terms(clips, draw())
    first = state()
    model.terms(clips, draw())
    assert not torch.equal(first["quantiser.codebook"], state()["quantiser.codebook"])
    first = state()
    model.eval().terms(clips, draw())
    model.enhance(clips.simulated_mixtures)
    model.quantiser.train()
    model.enhance(clips.simulated_mixtures)
    torch.testing.assert_close(state(), first, rtol=0, atol=0)


def test_a_step_is_a_function_of_batch_and_generator():
    runs = []
    for _ in range(2):
        model = system().train()
        terms = [model.pretraining_terms(batch(), draw()), *(model.terms(batch(), draw(step)) for step in range(3))]
        runs.append((terms, model.quantiser.state_dict()))
    torch.testing.assert_close(runs[0], runs[1], rtol=0, atol=0)


def test_pretraining_hears_the_mixtures_alone():
    model = system()
    clips = batch()
    other = batch(seed=1)
    expected = model.pretraining_terms(clips, draw())
    torch.testing.assert_close(model.pretraining_terms(other._replace(mixtures=clips.mixtures), draw()), expected)
    changed = model.pretraining_terms(clips._replace(mixtures=other.mixtures), draw())
    assert not torch.equal(changed["masked_prediction"], expected["masked_prediction"])


def test_hidden_frames_are_not_seen():
    prediction = build(MaskedPrediction, SMALL.model_copy(update={"masked_share": 1 - 1e-12}))
    encoder = build(WaveformEncoder, SMALL)
    seen = []
    encoder.norm_in.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    prediction(encoder, batch().mixtures, draw())
    torch.testing.assert_close(seen[0], prediction.hidden.expand_as(seen[0]))


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_the_wanted_share_is_hidden(share):
    prediction = build(MaskedPrediction, SMALL.model_copy(update={"masked_share": share}))
    encoder = build(WaveformEncoder, SMALL)
    seen = []
    encoder.norm_in.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    prediction(encoder, torch.randn(4, 1000 * HOP, generator=draw()), draw())
    hidden = (seen[0] == prediction.hidden).all(dim=-1).float()
    assert float(hidden.mean()) == pytest.approx(share, abs=0.05)


def test_labels_tell_sounds_apart_but_not_levels():
    prediction = build(MaskedPrediction, SMALL)
    waveform = batch(8192, 1).mixtures
    labels = prediction.labels(waveform / 0.05)
    assert labels.unique().numel() > 20
    # Only what lies at the floor of the logarithm differs.
    assert (prediction.labels(waveform / 0.025) == labels).float().mean() > 0.8


def minimise(model, parts, terms, steps):
    """Return the losses of training on one batch."""
    optimiser = torch.optim.Adam([parameter for part in parts for parameter in part.parameters()], lr=3e-3)
    losses = []
    for _ in range(steps):
        loss = sum(terms(batch(), draw()).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses


def test_pretraining_learns_the_names_of_one_batch():
    model = system()
    losses = minimise(model, model.pretrained_parts(), model.pretraining_terms, 40)
    assert losses[-1] < 0.8 * losses[0]


def test_training_learns_one_batch():
    model = system()
    losses = minimise(model, model.trained_parts(), model.terms, 40)
    assert losses[-1] < 0.8 * losses[0]


def test_parts_cover_what_is_learned_and_nothing_twice():
    model = system()
    for parts in (model.pretrained_parts(), model.trained_parts()):
        parameters = [parameter for part in parts for parameter in part.parameters()]
        assert len(parameters) == len(set(parameters))
    model.pretraining_terms(batch(), draw())["masked_prediction"].backward()
    assert all(p.grad is not None for part in model.pretrained_parts() for p in part.parameters())
    model.zero_grad(set_to_none=True)
    sum(model.terms(batch(), draw()).values()).backward()
    assert all(p.grad is not None for part in model.trained_parts() for p in part.parameters())
    assert all(p.grad is None for p in model.prediction.parameters())


def test_the_training_begins_with_the_mixture():
    waveform = batch().simulated_mixtures
    torch.testing.assert_close(build(PVQ, FRONTEND, SMALL).enhance(waveform), waveform)


def test_the_level_of_a_signal_does_not_matter():
    model = system().eval()
    waveform = batch(samples=8000).simulated_mixtures
    torch.testing.assert_close(model.enhance(0.1 * waveform), 0.1 * model.enhance(waveform), rtol=1e-3, atol=1e-6)


def test_silence_stays_silent():
    model = system().train()
    silent = UnpairedTensors(*[torch.zeros(2, 3000)] * 6, torch.zeros(2, 2))
    enhanced = model.eval().enhance(silent.mixtures)
    assert enhanced.abs().max() < 1e-3
    for terms in (model.pretraining_terms, model.train().terms):
        loss = sum(terms(silent, draw()).values())
        loss.backward()
        assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("wrong", [{"kernel": 2, "stride": 4}, {"width": 30, "heads": 4}])
def test_layers_that_do_not_fit_are_refused(wrong):
    with pytest.raises(ValidationError, match="found"):
        VectorQuantisedSettings(**wrong)
