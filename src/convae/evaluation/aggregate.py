"""The aggregate posterior: the mean of the posteriors of all images, which a good model matches to the prior."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

BLOCK = 1 << 22
"""Pairs of a latent and a posterior in memory at a time, 8 bytes each."""
QUERIES = 10_000
"""Latents at which the aggregate posterior of a split is evaluated at most: the time is images × queries."""


def query_positions(count: int) -> Int64[Tensor, " query"]:
    """The images whose drawn latents are queries: all of them, or `QUERIES` at even distances."""
    if count <= QUERIES:
        return torch.arange(count)
    return torch.linspace(0, count - 1, QUERIES, dtype=torch.float64).round().long()


def log_aggregate(
    z: Float[Tensor, "latents value"], mean: Float[Tensor, "images value"], logvar: Float[Tensor, "images value"]
) -> Float64[Tensor, " latents"]:
    """Log (1/N) Σ q(z | xₙ) at each latent, nats: a mixture with one diagonal Gaussian for each of N images.

    The squares are multiplied out, so that the work is one matrix product, in float64. One block of memory is used
    again and again: blocks that are freed and allocated anew between small results leave holes, and the heap grows.
    """
    mean, logvar = mean.double(), logvar.double()
    precision = torch.exp(-logvar)
    constant = -0.5 * ((mean.square() * precision + logvar).sum(1) + mean.shape[1] * math.log(2 * math.pi))
    factors = torch.cat([-0.5 * precision, mean * precision], dim=1).T
    step = min(max(1, BLOCK // len(mean)), len(z))
    found = torch.empty(len(z), dtype=torch.float64)
    block = torch.empty(step, len(mean), dtype=torch.float64)
    for start in range(0, len(z), step):
        part = z[start : start + step].double()
        logits = torch.addmm(constant, torch.cat([part.square(), part], dim=1), factors, out=block[: len(part)])
        # A posterior far from all of them is −∞ everywhere: subtracting that would be NaN.
        largest = logits.amax(1, keepdim=True).clamp_min(torch.finfo(torch.float64).min)
        sums = logits.sub_(largest).exp_().sum(1)
        found[start : start + step] = sums.log_() + largest[:, 0]
    return found - math.log(len(mean))
