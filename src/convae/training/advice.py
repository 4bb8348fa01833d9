"""Which prior a trained model needs for samples that look like its images."""

from __future__ import annotations

import math

from convae.core.errors import ConvaeError
from convae.model.priors.standard_normal import StandardNormal
from convae.model.priors.uniform_codes import UniformCodes
from convae.model.vae import VAE
from convae.objective.terms import TERMS

LARGEST_MIXTURE = 256
"""Latent values beyond which a Gaussian mixture has diagonal covariances only."""


def missing_prior(model: VAE) -> tuple[str, str] | None:
    """The prior to fit with `convae prior`, and why; None where samples of the model's own prior are good.

    Codes are drawn uniformly without it. Latents that no term of the objective held to N(0, I) are distributed
    otherwise.
    """
    if isinstance(model.prior, UniformCodes):
        return "transformer", "codes are drawn uniformly, so that samples have no structure"
    if not isinstance(model.prior, StandardNormal) or _is_regularized(model):
        return None
    name = "gmm" if math.prod(model.prior.latent_shape) <= LARGEST_MIXTURE else "flow-matching"
    return name, "no term of the training held the latents to N(0, I), from which they are drawn"


def _is_regularized(model: VAE) -> bool:
    """Whether the objective had a term that holds the posterior to the prior; unknown of a Gaussian one: yes."""
    trained = model.provenance.training
    if trained is None:
        return model.bottleneck.has_density
    terms = trained.objective if trained.encoder_objective is None else trained.encoder_objective
    if not terms:
        return model.bottleneck.has_density
    return any(_regularizes(name) for name in terms)


def _regularizes(term: str) -> bool:
    """Whether a term holds the posterior to the prior; of one that is not installed, it is assumed."""
    try:
        return bool(TERMS.get(term).regularizes_posterior)
    except ConvaeError:
        return True
