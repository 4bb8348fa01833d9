"""Bernoulli likelihood."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from convae.core.output import Likelihood
from convae.core.precision import at_least_float32
from convae.core.types import AnyImages, Images
from convae.model.likelihoods.base import LikelihoodHead, require_images_like, uniform_like


@dataclass(frozen=True)
class BernoulliLikelihood(Likelihood):
    """Independent Bernoulli distribution of each pixel value.

    Attributes:
        logits: (batch, channel, *sizes), log-odds.
    """

    logits: Images

    @property
    def mean(self) -> Images:
        """The probability of a one."""
        return self.logits.sigmoid()

    def sample(self, generator: torch.Generator | None = None) -> Images:
        """Draws zeros and ones."""
        return (uniform_like(self.logits, generator) < self.mean).to(self.logits.dtype)

    def log_prob_values(self, x: AnyImages) -> Images:
        """x·log p + (1 − x)·log(1 − p), nats.

        For binary images this is a probability. For gray values it is the cross-entropy, whose optimum is the entropy
        of the image, not zero: compare it only with other Bernoulli likelihoods.
        """
        # Cross-entropy from the log-odds, stable for both signs: logits·x − log(1 + e^logits).
        return self.logits * require_images_like(x, self.logits) - F.softplus(self.logits)


class Bernoulli(LikelihoodHead):
    """Bernoulli likelihood of each pixel value: binary images, or the usual cross-entropy of gray ones."""

    def is_probability(self, levels: int | None) -> bool:
        """Whether the images are binary."""
        return levels == 2

    def raw_for(self, mean: Tensor) -> Tensor:
        """Log-odds."""
        return mean.logit()

    def forward(self, raw: Tensor) -> BernoulliLikelihood:
        """Raw values as log-odds."""
        return BernoulliLikelihood(at_least_float32(raw))
