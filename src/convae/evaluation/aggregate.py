"""The aggregate posterior: the mean of the posteriors of all images, which a good model matches to the prior."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Float64
from torch import Tensor

BLOCK = 1 << 22
"""Pairs of a latent and a posterior in memory at a time."""


def log_aggregate(
    z: Float[Tensor, "latents value"], mean: Float[Tensor, "images value"], logvar: Float[Tensor, "images value"]
) -> Float64[Tensor, " latents"]:
    """Log (1/N) Σ q(z | xₙ) at each latent, nats: a mixture with one diagonal Gaussian for each of N images.

    The squares are multiplied out, so that the work is three matrix products, in float64.
    """
    z, mean, logvar = z.double(), mean.double(), logvar.double()
    precision = torch.exp(-logvar)
    constant = (mean.square() * precision + logvar).sum(1) + mean.shape[1] * math.log(2 * math.pi)
    step = max(1, BLOCK // len(mean))
    parts = [
        torch.logsumexp(-0.5 * (part.square() @ precision.T - 2 * part @ (mean * precision).T + constant), dim=1)
        for part in torch.split(z, step)
    ]
    return torch.cat(parts) - math.log(len(mean))
