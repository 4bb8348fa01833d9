"""Distances between two sets of features: arithmetic alone, whatever network the features are from."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from convae.core.errors import DataError

BLOCK = 1 << 22
"""Distances in memory at a time, 8 bytes each, and several such blocks."""
ROWS = 4096
"""Features in memory at a time as float64."""


def frechet(real: Float[Tensor, "real feature"], drawn: Float[Tensor, "drawn feature"]) -> float:
    """Squared Fréchet distance of the Gaussians with the sets' means and covariances (Dowson & Landau 1982).

    |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2(Σ₁ Σ₂)^½), in float64. Over a finite set it is too large, the more so the fewer
    images and the more features there are: compare only values of equal counts (Chong & Forsyth 2020).

    Raises:
        DataError: fewer than two images in a set.
    """
    if min(len(real), len(drawn)) < 2:
        raise DataError(f"a Fréchet distance needs two images in each set, got {len(real)} and {len(drawn)}")
    (middle, first), (other, second) = _moments(real), _moments(drawn)
    gap = (middle - other).square().sum()
    # tr (Σ₁ Σ₂)^½ by the symmetric matrix Σ₁^½ Σ₂ Σ₁^½, which has the same eigenvalues.
    values, vectors = torch.linalg.eigh(first)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ second @ root).clamp_min(0).sqrt().sum()
    return float(gap + first.trace() + second.trace() - 2 * cross)


def _moments(features: Float[Tensor, "some feature"]) -> tuple[Tensor, Tensor]:
    """Mean and covariance in float64, a few thousand features at a time."""
    mean = features.mean(0, dtype=torch.float64)
    total = torch.zeros(features.shape[1], features.shape[1], dtype=torch.float64)
    for part in torch.split(features, ROWS):
        centered = part.double() - mean
        total.addmm_(centered.T, centered)
    return mean, total / (len(features) - 1)


def kernel(real: Float[Tensor, "some feature"], drawn: Float[Tensor, "some feature"]) -> float:
    """Squared maximum mean discrepancy under (x·y / d + 1)³, unbiased (Bińkowski et al. 2018, arXiv:1801.01401).

    Raises:
        DataError: fewer than two images in a set.
    """
    count, features = real.shape
    if count < 2:
        raise DataError(f"a kernel distance needs two images in each set, got {count}")
    x, y = real.double(), drawn.double()
    of_x, of_y, between = ((a @ b.T / features + 1).pow(3) for a, b in ((x, x), (y, y), (x, y)))
    within = (of_x.sum() - of_x.trace() + of_y.sum() - of_y.trace()) / (count * (count - 1))
    return float(within - 2 * between.mean())


def covered(
    points: Float[Tensor, "points feature"], by: Float[Tensor, "others feature"], k: int
) -> Bool[Tensor, " points"]:
    """Whether each point lies within the reach of another set (Kynkäänniemi et al. 2019, arXiv:1904.06991).

    The reach is the union of balls around the set's members, each as large as the distance to its k-th neighbor.

    Raises:
        DataError: the set has no k-th neighbors.
    """
    if len(by) <= k:
        raise DataError(f"the reach of a set by {k} neighbors needs {k + 1} images, got {len(by)}")
    by = by.double()
    step = max(1, BLOCK // len(by))
    radii = torch.empty(len(by), dtype=torch.float64)
    for start in range(0, len(by), step):
        # The nearest of its own set is a member itself.
        radii[start : start + step] = torch.cdist(by[start : start + step], by).kthvalue(k + 1).values
    found = torch.empty(len(points), dtype=torch.bool)
    for start in range(0, len(points), step):
        found[start : start + step] = (torch.cdist(points[start : start + step].double(), by) <= radii).any(1)
    return found
