"""Nearest codes of a codebook, without a matrix of all distances."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from convae.core.precision import full_precision

CHUNK = 1 << 22
"""Number of distances in memory at a time."""


@torch.no_grad()
def nearest_codes(
    vectors: Float[Tensor, "vector channel"], codebook: Float[Tensor, "code channel"]
) -> Int64[Tensor, " vector"]:
    """The index of the nearest code of each vector by Euclidean distance, computed in the dtype of the vectors."""
    with full_precision(vectors.device):
        codebook = codebook.to(vectors.dtype)
        norms, transposed = codebook.square().sum(1), codebook.T
        # |v|² is equal for all codes.
        return _by_rows(lambda rows: (norms - 2 * rows @ transposed).argmin(1), vectors, len(codebook))


@torch.no_grad()
def most_similar_codes(
    vectors: Float[Tensor, "vector channel"], codebook: Float[Tensor, "code channel"]
) -> Int64[Tensor, " vector"]:
    """The index of the code with the largest dot product with each vector."""
    with full_precision(vectors.device):
        transposed = codebook.to(vectors.dtype).T
        return _by_rows(lambda rows: (rows @ transposed).argmax(1), vectors, len(codebook))


def _by_rows(search: Callable[[Tensor], Tensor], vectors: Tensor, codes: int) -> Tensor:
    """Applies `search` to chunks of vectors with at most `CHUNK` distances."""
    if torch.compiler.is_exporting() or len(vectors) * codes <= CHUNK:
        return search(vectors)
    return torch.cat([search(rows) for rows in torch.split(vectors, max(1, CHUNK // codes))])
