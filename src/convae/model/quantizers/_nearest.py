"""Nearest codes of a table, without a table of all distances."""

from __future__ import annotations

from collections.abc import Callable

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
        # |v|² is the same for all codes.
        return _by_rows(lambda rows: (norms - 2 * rows @ transposed).argmin(1), vectors, len(entries))


@torch.no_grad()
def most_similar_codes(
    vectors: Float[Tensor, "vector channel"], entries: Float[Tensor, "code channel"]
) -> Int64[Tensor, " vector"]:
    """The index of the code vector that has the largest dot product with each vector."""
    with full_precision(vectors.device):
        transposed = entries.to(vectors.dtype).T
        return _by_rows(lambda rows: (rows @ transposed).argmax(1), vectors, len(entries))


def _by_rows(search: Callable[[Tensor], Tensor], vectors: Tensor, codes: int) -> Tensor:
    """What `search` finds for each vector, for as many vectors at a time as the chunk allows."""
    if torch.compiler.is_exporting() or len(vectors) * codes <= CHUNK:
        return search(vectors)
    return torch.cat([search(rows) for rows in torch.split(vectors, max(1, CHUNK // codes))])
