"""Distances between two sets of features."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from convae.core.errors import DataError

BLOCK = 1 << 22
"""Number of distances in a chunk, 8 bytes each; several chunks are in memory at a time."""
ROWS = 4096
"""Number of feature vectors in a chunk of float64."""


def frechet_distance(real: Float[Tensor, "real feature"], drawn: Float[Tensor, "drawn feature"]) -> float:
    """Squared Fréchet distance of Gaussians with the means and covariances of two sets (Dowson & Landau 1982).

    |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2(Σ₁ Σ₂)^½), in float64. The estimate is biased upwards, more for fewer images and for
    more features, so compare values of equal numbers of images only (Chong & Forsyth 2020, arXiv:1911.07023).

    Raises:
        DataError: a set has fewer than two images.
    """
    if min(len(real), len(drawn)) < 2:
        raise DataError(f"Fréchet distance: expected at least 2 images per set, got {len(real)} and {len(drawn)}")
    (mean_1, first), (mean_2, second) = _moments(real), _moments(drawn)
    gap = (mean_1 - mean_2).square().sum()
    # Σ₁ Σ₂ has the eigenvalues of the symmetric matrix Σ₁^½ Σ₂ Σ₁^½.
    values, vectors = torch.linalg.eigh(first)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ second @ root).clamp_min(0).sqrt().sum()
    return float(gap + first.trace() + second.trace() - 2 * cross)


def _moments(features: Float[Tensor, "some feature"]) -> tuple[Tensor, Tensor]:
    """Mean and unbiased covariance in float64, in chunks."""
    mean = features.mean(0, dtype=torch.float64)
    total = torch.zeros(features.shape[1], features.shape[1], dtype=torch.float64)
    for part in torch.split(features, ROWS):
        centered = part.double() - mean
        total.addmm_(centered.T, centered)
    return mean, total / (len(features) - 1)


def kernel_distance(real: Float[Tensor, "some feature"], drawn: Float[Tensor, "some feature"]) -> float:
    """Unbiased squared maximum mean discrepancy of two sets of equal size (Bińkowski et al. 2018, arXiv:1801.01401).

    The kernel is (x·y / d + 1)³ for d features.

    Raises:
        DataError: the sets have fewer than two images.
    """
    count, features = real.shape
    if count < 2:
        raise DataError(f"kernel distance: expected at least 2 images per set, got {count}")
    x, y = real.double(), drawn.double()
    of_x, of_y, between = ((a @ b.T / features + 1).pow(3) for a, b in ((x, x), (y, y), (x, y)))
    within = (of_x.sum() - of_x.trace() + of_y.sum() - of_y.trace()) / (count * (count - 1))
    return float(within - 2 * between.mean())


def is_in_manifold(
    points: Float[Tensor, "points feature"], reference: Float[Tensor, "others feature"], k: int
) -> Bool[Tensor, " points"]:
    """Whether each point lies in the estimated manifold of a reference set (Kynkäänniemi et al. 2019).

    arXiv:1904.06991. The manifold is the union of balls around the reference points, whose radii are the distances to
    their k-th nearest neighbors in the set.

    Raises:
        DataError: the reference set has at most k points.
    """
    if len(reference) <= k:
        raise DataError(f"manifold of {k} neighbors: expected at least {k + 1} images, got {len(reference)}")
    reference = reference.double()
    step = max(1, BLOCK // len(reference))
    radii = torch.empty(len(reference), dtype=torch.float64)
    for start in range(0, len(reference), step):
        # The nearest point is the point itself.
        radii[start : start + step] = torch.cdist(reference[start : start + step], reference).kthvalue(k + 1).values
    is_inside = torch.empty(len(points), dtype=torch.bool)
    for start in range(0, len(points), step):
        distances = torch.cdist(points[start : start + step].double(), reference)
        is_inside[start : start + step] = (distances <= radii).any(1)
    return is_inside
