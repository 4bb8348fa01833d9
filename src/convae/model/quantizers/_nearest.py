"""Nearest codes of a table, without a table of all distances."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from convae.core.precision import full_precision

CHUNK = 1 << 22
"""Distances that are held at a time."""


@torch.no_grad()
def nearest_codes(
    vectors: Float[Tensor, "vector channel"], entries: Float[Tensor, "code channel"]
) -> Int64[Tensor, " vector"]:
    """The index of the code vector nearest to each vector, in the precision of the vectors."""
    with full_precision(vectors.device):
        entries = entries.to(vectors.dtype)
        norms, transposed = entries.square().sum(1), entries.T

        def search(rows: Tensor) -> Tensor:
            # |v|² is the same for all codes.
            return (norms - 2 * rows @ transposed).argmin(1)

        if torch.compiler.is_exporting() or len(vectors) * len(entries) <= CHUNK:
            return search(vectors)
        return torch.cat([search(rows) for rows in torch.split(vectors, max(1, CHUNK // len(entries)))])
