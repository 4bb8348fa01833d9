"""Nearest neighbors in latent space."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from convae.core.errors import ConfigError
from convae.core.names import count_text
from convae.core.types import Latents

BLOCK = 1 << 22
"""Number of distances in memory at a time."""


def find_neighbors(
    query: Float[Tensor, queries * latent], z: Latents, count: int
) -> tuple[Int64[Tensor, "queries count"], Float[Tensor, "queries count"]]:
    """Positions in `z` of the `count` nearest latents of each query, nearest first, and their distances.

    Raises:
        ConfigError: `count` is not between 1 and the number of latents.
    """
    if not 1 <= count <= len(z):
        raise ConfigError(f"expected 1 to {len(z)} neighbors among {count_text(len(z), 'latent')}, got {count}")
    step = max(1, BLOCK // len(z))
    points = z.flatten(1)
    found = torch.empty(len(query), count, dtype=torch.int64)
    distances = torch.empty(len(query), count, dtype=z.dtype)
    for start in range(0, len(query), step):
        part = query[start : start + step].flatten(1)
        near = torch.cdist(part, points, compute_mode="donot_use_mm_for_euclid_dist").topk(count, largest=False)
        found[start : start + step], distances[start : start + step] = near.indices, near.values
    return found, distances
