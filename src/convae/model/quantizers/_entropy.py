"""Entropy of soft code assignments, over all codes and without a table of them."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from convae.core.precision import full_precision
from convae.core.slices import mean_of_sums
from convae.core.types import Latents, PerImage

_TINY = 1e-30
"""Probabilities below add nothing to an entropy, and have no gradient."""


def entropy_of_bits(logits: Tensor) -> Tensor:
    """Entropy of Bernoulli distributions given by logits, nats."""
    return F.softplus(logits) - logits * torch.sigmoid(logits)


def entropy_of(probabilities: Tensor) -> Tensor:
    """Entropy of one distribution over codes, (code,), nats."""
    return -(probabilities * probabilities.clamp_min(_TINY).log()).sum()


def joint_marginal(logits: Float[Tensor, "vector bit"]) -> Float[Tensor, " code"]:
    """Mean over the batch of the distributions over codes of independent bits; the first bit counts most.

    A code's probability is the product of those of its bits. Each half of the bits has few combinations, and the sum
    over vectors of the outer products of both halves is one matrix product: memory for 2^(bits / 2) values a vector.
    """
    with full_precision(logits.device):
        bits = torch.sigmoid(logits)
        halves = [_combinations(half) for half in bits.split([bits.shape[1] // 2, -(-bits.shape[1] // 2)], 1)]
        return mean_of_sums(halves[0].T @ halves[1], len(logits)).flatten()


def _combinations(bits: Tensor) -> Tensor:
    """(vector, bit) probabilities of ones to (vector, 2^bit) probabilities of each combination."""
    found = bits.new_ones(len(bits), 1)
    for own in bits.unbind(1):
        found = torch.stack([found * (1 - own)[:, None], found * own[:, None]], -1).flatten(1)
    return found


def entropy_cost(each: Latents, marginal: Tensor, diversity: float) -> PerImage:
    """The entropy term of each image, nats: that of its vectors, less that of the batch for as many vectors.

    Args:
        each: (batch, *grid), entropy of the assignment of each vector.
        marginal: entropy of the mean assignment of the batch.
        diversity: factor on the latter.
    """
    return each.reshape(len(each), -1).sum(1) - diversity * math.prod(each.shape[1:]) * marginal
