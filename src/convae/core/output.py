"""What a forward pass returns: posterior, latent, likelihood and the terms that layers reported."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from convae.core.posterior import CodePosterior, Posterior
from convae.core.types import AnyImages, Images, Latents, Logits, PerImage


class Likelihood(ABC):
    """Observation model p(x | z) of each image of a batch; images are (batch, channel, *sizes) in [0, 1]."""

    @property
    @abstractmethod
    def mean(self) -> Images:
        """The expected image, in [0, 1]."""

    @abstractmethod
    def sample(self, generator: torch.Generator | None = None) -> Images:
        """One image drawn for each latent, in [0, 1]."""

    @abstractmethod
    def log_prob(self, x: AnyImages) -> PerImage:
        """Log p(x | z) of each image, summed over its values, nats.

        Raises:
            ShapeError: `x` is not one image of the right shape, with floats in [0, 1], for each latent.
        """


@dataclass(frozen=True)
class Output:
    """The result of a forward pass.

    Attributes:
        posterior: q(z | x) of each image.
        latent: (batch, *latent), the latent that was decoded.
        likelihood: p(x | z).
        terms: costs that layers reported, (batch,) each, unweighted.
        logits: (batch, class) of the classifier; None from a model without one.
        term_parts: the costs of each term by the place of the quantizer that reported them.
        codes: posterior over the codes of each quantizer by its place: the name of its latent, or of the module that
            holds it, such as `encoder.2`.
    """

    posterior: Posterior
    latent: Latents
    likelihood: Likelihood
    terms: Mapping[str, Tensor] = field(default_factory=dict)
    logits: Logits | None = None
    term_parts: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    codes: Mapping[str, CodePosterior] = field(default_factory=dict)
