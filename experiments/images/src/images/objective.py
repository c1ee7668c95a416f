"""The losses of both stages: those of the method, on images."""

from typing import NamedTuple

import torch
from torch import Tensor

from images.networks import ImageSystem, Translation
from sottovoce.config import Settings, Weight
from sottovoce.objectives.joint import LossTerms
from sottovoce.objectives.latent import latent_distance, prior
from sottovoce.objectives.spectral import reconstruction, signal_to_error, silence


class Weights(Settings):
    """Weights of the terms; their names are those of the product, with images in place of amplitudes.

    Without `mixture`, no term of noisy slices is computed; without `simulated_image`, none of simulated pairs.
    """

    clean: Weight = 1.0
    clean_prior: Weight = 1e-3
    mixture: Weight = 1.0
    cycle: Weight = 1.0
    latent_consistency: Weight = 0.1
    prior: Weight = 1e-3
    silence: Weight = 1.0
    simulated_latent: Weight = 0.1
    simulated_decoded: Weight = 1.0
    simulated_image: Weight = 10.0
    simulated_snr: Weight = 0.03


class Batch(NamedTuple):
    """Patches of one step, in the representation and at the scale of noisy images.

    Attributes:
        clean: Patches of clean slices, `(B, 1, H, W)`.
        noisy: Patches of noisy slices, `(M, 1, H, W)`.
        air: Noise alone, `(K, 1, H, W)`.
        nothing: What is there in `air` without noise, `(K, 1, H, W)`.
        simulated: Clean patches with noise of air; for the bound, patches of noisy slices, `(P, 1, H, W)`.
        simulated_clean: The same without noise, `(P, 1, H, W)`.
    """

    clean: Tensor
    noisy: Tensor
    air: Tensor
    nothing: Tensor
    simulated: Tensor
    simulated_clean: Tensor


def clean_terms(model: ImageSystem, clean: Tensor, generator: torch.Generator) -> LossTerms:
    """L_SAE = rec(x̂_s, x_s) + prior, on clean images alone.

    Args:
        model: The system.
        clean: `(B, 1, H, W)`.
        generator: Source of the latent noise.

    Returns:
        Named terms.
    """
    latent = model.encode_clean(clean)
    return {"clean": reconstruction(model.decode_clean(latent, generator), clean), "clean_prior": prior(latent)}


def joint_terms(model: ImageSystem, batch: Batch, weights: Weights, generator: torch.Generator) -> LossTerms:
    """L_SAE + L_MAE: reconstruction of both, cycle, latent consistency, silence, priors, simulated pairs.

    Args:
        model: The system.
        batch: Patches.
        weights: Which terms are wanted.
        generator: Source of the latent noise.

    Returns:
        Named terms.
    """
    terms = clean_terms(model, batch.clean, generator)
    # Patches whose terms have no weight are left out.
    wanted = (batch.noisy, weights.mixture), (batch.air, weights.silence), (batch.simulated, weights.simulated_image)
    parts = [patches if weight else patches[:0] for patches, weight in wanted]
    if not any(map(len, parts)):
        return terms
    translation = model.translate(torch.cat(parts), generator)
    split = zip(*(torch.split(part, list(map(len, parts))) for part in translation), strict=True)
    noisy, air, simulated = (Translation(*each) for each in split)
    if weights.mixture:
        rebuilt = model.decode_mixture(noisy.latent, noisy.noise_code, generator)
        cycle_latent = model.encode_clean(noisy.image)
        cycled = model.decode_mixture(cycle_latent, noisy.noise_code, generator)
        terms |= {
            "mixture": reconstruction(rebuilt, batch.noisy),
            "cycle": reconstruction(cycled, batch.noisy),
            "latent_consistency": latent_distance(cycle_latent, noisy.latent),
            "prior": prior(noisy.latent) + prior(cycle_latent),
        }
    if weights.silence:
        terms["silence"] = silence(air.image - batch.nothing)
    if weights.simulated_image:
        with torch.no_grad():
            latent = model.encode_clean(batch.simulated_clean)
        terms |= {
            "simulated_latent": latent_distance(simulated.latent, latent),
            "simulated_decoded": reconstruction(simulated.decoded, batch.simulated_clean),
            "simulated_image": reconstruction(simulated.image, batch.simulated_clean),
            "simulated_snr": signal_to_error(simulated.image.flatten(1), batch.simulated_clean.flatten(1)),
        }
    return terms
