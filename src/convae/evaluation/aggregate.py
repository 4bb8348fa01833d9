"""The aggregate posterior q(z): the mean of the posteriors q(z | x) of all images of a split."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

BLOCK = 1 << 22
"""Number of pairs of a latent and a posterior in memory at a time, 8 bytes each."""
QUERIES = 10_000
"""Maximum number of latents at which the aggregate posterior is evaluated; the time is images × queries."""


def query_positions(count: int) -> Int64[Tensor, " query"]:
    """Positions of images at whose latents the aggregate posterior is evaluated: all, or `QUERIES` evenly spaced."""
    if count <= QUERIES:
        return torch.arange(count)
    return torch.linspace(0, count - 1, QUERIES, dtype=torch.float64).round().long()


def log_aggregate(
    z: Float[Tensor, "latents value"], mean: Float[Tensor, "images value"], logvar: Float[Tensor, "images value"]
) -> Float64[Tensor, " latents"]:
    """Log density of the aggregate posterior, log (1/N) Σ q(z | xₙ), for N diagonal Gaussians, nats.

    Expanding the squares makes this one matrix product, in float64. All chunks share one buffer, since allocating each
    fragments the heap.
    """
    mean, logvar = mean.double(), logvar.double()
    precision = torch.exp(-logvar)
    constant = -0.5 * ((mean.square() * precision + logvar).sum(1) + mean.shape[1] * math.log(2 * math.pi))
    coefficients = torch.cat([-0.5 * precision, mean * precision], dim=1).T
    step = min(max(1, BLOCK // len(mean)), len(z))
    log_density = torch.empty(len(z), dtype=torch.float64)
    block = torch.empty(step, len(mean), dtype=torch.float64)
    for start in range(0, len(z), step):
        part = z[start : start + step].double()
        logits = torch.addmm(constant, torch.cat([part.square(), part], dim=1), coefficients, out=block[: len(part)])
        # A latent far from all posteriors has logits of −∞; subtracting −∞ would give NaN.
        largest = logits.amax(1, keepdim=True).clamp_min(torch.finfo(torch.float64).min)
        sums = logits.sub_(largest).exp_().sum(1)
        log_density[start : start + step] = sums.log_() + largest[:, 0]
    return log_density - math.log(len(mean))
