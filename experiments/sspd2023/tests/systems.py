"""Small systems of the published structure."""

import functools

import torch
from tests.systems import changed
from tests.training.conftest import SETTINGS as TINY_PRODUCT
from torch import nn

from sottovoce.config import parse_settings_as
from sspd2023.baselines import build_network
from sspd2023.settings import ExperimentSettings, load_row

row_settings = functools.cache(load_row)  # they are frozen

SMALL = {
    "frontend": {"window": 64, "hop": 16, "loss_windows": [64, 32], "level_horizon_seconds": 0.05},
    "poster": {
        "latent": 8,
        "shorter_windows": [32],
        "equalise_horizon_seconds": 0.02,
        "speech_encoder": {"widths": [16, 8], "kernel": 3},
        "mixture_encoder": {"widths": [16, 12, 8], "kernel": 5},
        "speech_decoder": {"widths": [12], "kernel": 3},
        "mixture_decoder": {"widths": [12], "kernel": 3},
    },
}

# The same for trainings of some steps.
TINY = {name: part for name, part in TINY_PRODUCT.items() if name != "model"} | {
    "poster": SMALL["poster"] | {"shorter_windows": [128]},
    "training": TINY_PRODUCT["training"] | {"data": TINY_PRODUCT["training"]["data"] | {"held_back_share": 0.0}},
}


def small_experiment(**change):
    """Return settings of the published system's structure, but a thousandth of its size."""
    content = row_settings("poster").model_dump(mode="json")
    return parse_settings_as(ExperimentSettings, changed(changed(content, SMALL), change), "tests")


def build(settings, seed=0):
    """Return a system with random values, statistics of the batch included, ready to be used."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        system = build_network(settings)
        for layer in system.modules():
            if isinstance(layer, nn.BatchNorm1d):
                layer.running_mean.normal_()
                layer.running_var.uniform_(0.5, 2)
                nn.init.uniform_(layer.weight, 0.5, 2)
                nn.init.normal_(layer.bias)
    return system.eval()
