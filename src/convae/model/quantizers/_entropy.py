"""Entropy of soft code assignments, exact over all codes."""

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
"""Smaller probabilities have no gradient, and do not change the entropy."""


def entropy_of_bits(logits: Tensor) -> Tensor:
    """Entropy of Bernoulli distributions with these logits, elementwise, nats."""
    return F.softplus(logits) - logits * torch.sigmoid(logits)


def entropy_of(probabilities: Tensor) -> Tensor:
    """Entropy of a distribution over codes, (code,), nats."""
    return -(probabilities * probabilities.clamp_min(_TINY).log()).sum()


def joint_marginal(logits: Float[Tensor, "vector bit"]) -> Float[Tensor, " code"]:
    """The mean distribution over codes of the batch, for independent bits; the first bit is the most significant.

    The probability of a code is the product of the probabilities of its bits. Splitting the bits in halves makes the
    mean one matrix product, with 2^(bits / 2) values in memory per vector.
    """
    with full_precision(logits.device):
        bits = torch.sigmoid(logits)
        halves = [_combinations(half) for half in bits.split([bits.shape[1] // 2, -(-bits.shape[1] // 2)], 1)]
        return mean_of_sums(halves[0].T @ halves[1], len(logits)).flatten()


def _combinations(bits: Tensor) -> Tensor:
    """Probabilities of ones, (vector, bit), to probabilities of all combinations of bits, (vector, 2^bit)."""
    joint = bits.new_ones(len(bits), 1)
    for one in bits.unbind(1):
        joint = torch.stack([joint * (1 - one)[:, None], joint * one[:, None]], -1).flatten(1)
    return joint


def entropy_cost(conditional: Latents, marginal: Tensor, diversity: float) -> PerImage:
    """The entropy term, nats per image: Σ over vectors of H(code | vector) − diversity · H(code).

    Args:
        conditional: (batch, *grid), entropy of the assignment of each vector.
        marginal: entropy of the mean assignment of the batch.
        diversity: factor on the marginal entropy.
    """
    return conditional.reshape(len(conditional), -1).sum(1) - diversity * math.prod(conditional.shape[1:]) * marginal
