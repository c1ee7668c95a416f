"""Attacks keep their ratio, and raise the loss more than noise does."""

import pytest
import torch

from sspd2023.detection import attacks

SNR_DB = 20.0


@pytest.fixture(scope="module")
def linear():
    """A network, clips and their classes: the first 40 samples decide."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.zeros(400, 3)
    weights[:40] = torch.randn(40, 3, generator=generator)
    clips = torch.randn(4, 400, generator=generator)

    def network(waveforms):
        return waveforms @ weights

    return network, clips, network(clips).argmax(dim=1)


def ratio_db(attacked, clips):
    noise = (attacked - clips).square().mean(dim=1)
    return 10 * torch.log10(clips.square().mean(dim=1) / noise)


def test_noise_and_fgsm_have_the_ratio(linear):
    network, clips, labels = linear
    for attacked in (
        attacks.white_noise(clips, SNR_DB, seed=1),
        attacks.fgsm(network, clips, labels, SNR_DB),
    ):
        torch.testing.assert_close(ratio_db(attacked, clips), torch.full((4,), SNR_DB), atol=0.01, rtol=0)


def test_attacks_mislead_where_noise_does_not(linear):
    network, clips, labels = linear
    by_noise = attacks.margin(network(attacks.white_noise(clips, SNR_DB, seed=1)), labels)
    by_fgsm = attacks.margin(network(attacks.fgsm(network, clips, labels, SNR_DB)), labels)
    by_pgd = attacks.margin(network(attacks.pgd(network, clips, labels, SNR_DB, steps=10, seed=1)), labels)
    assert (by_noise > 0).all()
    assert (by_fgsm < 0).all()
    assert (by_pgd < 0).all()


def test_pgd_stays_within_the_ratio(linear):
    network, clips, labels = linear
    attacked = attacks.pgd(network, clips, labels, SNR_DB, steps=10, seed=1)
    assert (ratio_db(attacked, clips) > SNR_DB - 0.01).all()


def test_adaptive_attack_lowers_the_score(linear):
    network, clips, labels = linear

    def score(attacked):
        return attacked[:, 200:].square().mean(dim=1)

    plain = attacks.pgd(network, clips, labels, SNR_DB, steps=20, seed=1)
    adaptive = attacks.pgd(network, clips, labels, SNR_DB, steps=20, seed=1, score=score)
    assert (score(adaptive) < score(plain)).all()


def test_margin_is_negative_where_the_network_is_wrong():
    logits = torch.tensor([[1.0, 3.0, 0.0], [5.0, 2.0, 1.0]])
    assert attacks.margin(logits, torch.tensor([0, 0])).tolist() == [-2.0, 3.0]
