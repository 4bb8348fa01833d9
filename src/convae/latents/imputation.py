"""Imputation of missing values."""

from __future__ import annotations

import torch
from torch import Tensor

from convae.core.errors import ConfigError
from convae.core.noise import Generators
from convae.core.types import Images
from convae.latents.refinement import refine
from convae.model.autoencoder import Features
from convae.model.condition import Labels
from convae.model.mode import evaluation_mode
from convae.model.vae import VAE


@torch.no_grad()
def impute(
    model: VAE,
    images: Images,
    weights: Tensor,
    labels: Labels | None = None,
    *,
    samples: int = 1,
    noise: Generators | None = None,
    refinement_steps: int = 0,
) -> Images:
    """Images with the expected value in place of missing ones, (batch, channel, *sizes) in [0, 1].

    With one sample, missing values are those of the reconstruction from the posterior mean. With K, the mean of the
    reconstructions of K drawn latents, weighted by p(x | z) p(z) / q(z | x) of the observed values: an estimate of
    E[missing | observed] that approaches it as K grows (MIWAE, Mattei & Frellsen 2019, arXiv:1812.02633).

    Args:
        model: its mode is not changed.
        images: (batch, channel, *sizes) in [0, 1], with the fill value where one is missing.
        weights: (batch, channel or 1, *sizes), 0 of missing values, 1 of observed ones; values between are mixed.
        labels: class numbers, for a conditional model.
        samples: K.
        noise: of the latents, one generator or one for each image; torch's default generator without it.
        refinement_steps: steps that refine the posterior of each image by its observed values, see `refine`.

    Raises:
        ShapeError: the model does not accept images of this shape.
        ConfigError: the model is conditional, and labels are missing; or there are several samples of posteriors
            without a density, or refinement of them.
    """
    if samples > 1 and any(module.is_discrete or not module.has_density for module in model.latent_modules):
        raise ConfigError(f"model '{model.name}' has no posterior density to weight samples by. Set samples to 1")
    with evaluation_mode(model):
        if refinement_steps:
            features = refine(model, images, labels, steps=refinement_steps, weights=weights)
        else:
            features = model.encode_features(images, labels)
        if samples == 1:
            expected = model.decode(model.posterior_of(features).mean, labels).mean
        else:
            expected = _weighted_mean(model, features, images, weights, samples, noise)
    return weights * images + (1 - weights) * expected


def _weighted_mean(
    model: VAE, features: Features, images: Images, weights: Tensor, samples: int, noise: Generators | None
) -> Images:
    """The importance-weighted mean of reconstructions, one sample of all images at a time."""
    total = torch.zeros_like(images)
    log_total = images.new_full((len(images),), -torch.inf, dtype=torch.float64)
    for _ in range(samples):
        output = model.decode_features(features, noise=noise)
        log_weight = output.log_weights(images, weights).to(log_total)
        log_sum = torch.logaddexp(log_total, log_weight)
        fraction = (log_weight - log_sum).exp().to(images).view(-1, *[1] * (images.ndim - 1))
        total = torch.lerp(total, output.likelihood.mean, fraction)
        log_total = log_sum
    return total
