"""Contract tests of priors."""

from __future__ import annotations

import math
from typing import Any

import torch

import convae
from convae.core.errors import ConfigError
from convae.core.noise import CountedNoise
from convae.core.random import torch_generator
from convae.core.types import Shape
from convae.interop.graphs import graph_names, trace_graph
from convae.model.priors import PRIORS
from convae.model.priors.base import Prior
from convae.model.vae import VAE
from convae.testing.entries import name_of, no_errors, require
from convae.testing.models import (
    check_saved,
    check_stored_form,
    check_summary,
    describe_decoder,
    describe_model,
    example_images,
)

_BOTTLENECKS: tuple[dict[str, Any], ...] = (
    {"gaussian": {"latent": 3}},
    {"vq": {"codes": 5, "latent": 3}},
    {"von-mises-fisher": {"latent": 3}},
)
"""What a prior may be over."""
_SAMPLES, _CENTERS, _LEAST_MASS = 8192, 64, 0.6
"""Samples of a prior, the number of them around which its density is integrated, and the least result."""


def check_prior(prior: str | type[Prior]) -> None:
    """Checks the contract of a prior with its `example`, over a Gaussian latent or a codebook.

    Its samples are latents or codes of the right shape and equal for equal generators; log_prob and loss are finite; a
    model with it can be described, saved, loaded and exported.

    Args:
        prior: class or registered name.

    Raises:
        AssertionError: the contract is violated.
    """
    name = name_of(PRIORS, prior)
    where = f"prior {name}"
    model = _with_prior({name: dict(PRIORS.get(name).example)}, where)
    with no_errors(where):
        _check_own_generators(model.prior, where)
        _check_prior_gradients(model, where)
        _check_density(model.prior, where)
    with no_errors(where), torch.no_grad():
        drawn = [model.prior.sample(3, torch_generator(0, "draw")) for _ in range(2)]
        images = [model.sample(3, torch_generator(0, "draw")) for _ in range(2)]
        latent = model(example_images(model)).latent
        density = model.prior.log_prob(latent)
        values = model.bottleneck.nearest_codes(latent) if model.prior.draws_codes else latent
        loss = model.prior.loss(values, torch.zeros(3, dtype=torch.int64), CountedNoise(0, ("loss",), 0, 3))
        labeled = model.prior.sample(3, torch_generator(0, "draw"), torch.zeros(3, dtype=torch.int64))
        check_stored_form(model, where)
        check_saved(model, where)
        check_summary(model, where)
        for graph in {"sample", "decode-codes"} & set(graph_names(model)):
            trace_graph(model, graph)
    shape = model.latent_shape[1:] if model.prior.draws_codes else model.latent_shape
    require(drawn[0].shape == (3, *shape), f"{where}: sample has the shape {tuple(drawn[0].shape)}")
    equal = torch.equal(*drawn) and torch.equal(*images)
    require(equal, f"{where}: sample is not deterministic for equal generators")
    require(density.shape == (3,), f"{where}: log_prob must have the shape (batch,), got {tuple(density.shape)}")
    require(density.isfinite().all(), f"{where}: log_prob is not finite")
    require(labeled.shape == drawn[0].shape, f"{where}: sample with labels has the shape {tuple(labeled.shape)}")
    sound = loss.shape == (3,) and bool(loss.isfinite().all())
    require(sound, f"{where}: loss must be finite values of the shape (batch,), got {loss}")


@torch.no_grad()
def _check_own_generators(prior: Prior, where: str) -> None:
    """Checks samples with a generator for each."""
    together = prior.sample(3, [torch_generator(0, "draw", index) for index in range(3)])
    alone = prior.sample(1, [torch_generator(0, "draw", 1)])
    same = together.dtype == alone.dtype and torch.allclose(together[1:2].double(), alone.double(), 1e-4, 1e-5)
    require(same, f"{where}: with one generator for each sample, a sample depends on others, or on another generator")


def _check_prior_gradients(model: VAE, where: str) -> None:
    """Checks that every parameter of a prior that is trained by gradients has one."""
    prior = model.prior
    if prior.is_fitted_at_once:
        return
    latent = model(example_images(model)).latent.detach()
    values = model.bottleneck.nearest_codes(latent) if prior.draws_codes else latent
    loss = prior.loss(values, torch.zeros(3, dtype=torch.int64), CountedNoise(0, ("loss",), 0, 3)).sum()
    if loss.requires_grad:
        loss.backward()
    for key, parameter in prior.named_parameters():
        gradient = parameter.grad
        require(gradient is not None and gradient.isfinite().all(), f"{where}: {key} receives no finite gradient")
    model.zero_grad()


@torch.no_grad()
def _check_density(prior: Prior, where: str) -> None:
    """Checks that `log_prob` is the log density of `sample`, over vectors.

    The mean of r(z) / p(z) over samples of p is 1 for any density r; here narrow Gaussians around some samples.
    """
    if prior.draws_codes or prior.is_spherical or len(prior.latent_shape) > 1:
        return
    z = prior.sample(_SAMPLES, torch_generator(0, "density")).double()
    centers, z, scale = z[:_CENTERS], z[_CENTERS:], 0.15 * z.std(0)
    around = torch.distributions.Normal(centers[:, None], scale).log_prob(z).sum(2).logsumexp(0) - math.log(_CENTERS)
    mass = float((around - prior.log_prob(z.to(prior.like.dtype)).double()).exp().mean())
    fits = _LEAST_MASS < mass < 1 / _LEAST_MASS
    require(
        fits, f"{where}: log_prob is not the log density of sample: it integrates to {1 / mass:.2g} or differs from it"
    )


def _with_prior(entry: dict[str, Any], where: str) -> VAE:
    """A model with the prior, over a Gaussian latent or, if it does not fit, over codes or a sphere."""
    faults = []
    for bottleneck in _BOTTLENECKS:
        latent: Shape = (3, 4, 4) if "vq" in bottleneck else (3,)
        encoder: list[Any] = [{"conv": {"channels": 4, "stride": 2}}]
        encoder += [] if "vq" in bottleneck else ["flatten"]
        spec = describe_model((1, 8, 8), encoder, bottleneck, describe_decoder(latent, (1, 8, 8), 1), "bernoulli")
        try:
            return convae.build({**spec, "prior": entry}).eval()
        except ConfigError as error:
            faults.append(str(error))
    raise AssertionError(f"{where}: does not work with any of the tested bottlenecks: {'; '.join(faults)}")
