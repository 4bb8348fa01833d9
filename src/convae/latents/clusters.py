"""k-means clusters of latents."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor

from convae.core.errors import ConfigError, DataError
from convae.core.names import count_text
from convae.core.random import numpy_generator
from convae.core.types import Latents

LARGE = 20_000
"""Number of latents above which mini-batch k-means is used (Sculley 2010)."""
MOST = 20
"""Largest number of clusters for `auto`."""
JUDGED = 2_000
"""Largest number of latents for silhouettes, which need all pairs."""


@dataclass(frozen=True)
class Clusters:
    """Clusters, the largest first.

    Attributes:
        centroids: (cluster, *latent).
        assigned: (image,) cluster of each latent.
        nearest: positions of the latents nearest to the centroid of each cluster, the nearest first.
        silhouette: mean silhouette, from -1 to 1 (Rousseeuw 1987); None for one cluster, or one latent per cluster.
        tried: silhouette by number of clusters; empty for a given number.
    """

    centroids: Float[Tensor, cluster * latent]
    assigned: Int64[Tensor, " image"]
    nearest: list[Tensor]
    silhouette: float | None = None
    tried: dict[int, float] = field(default_factory=dict)

    @property
    def sizes(self) -> Int64[Tensor, " cluster"]:
        """Number of latents in each cluster."""
        return torch.bincount(self.assigned, minlength=len(self.centroids))


@dataclass(frozen=True)
class Agreement:
    """Agreement of clusters and classes of labeled images, independent of their numbering.

    Attributes:
        images: number of labeled images.
        adjusted_rand: adjusted Rand index: 1 for equal partitions, 0 for chance (Hubert & Arabie 1985).
        normalized_mutual_information: from 0 to 1, by the arithmetic mean of both entropies.
    """

    images: int
    adjusted_rand: float
    normalized_mutual_information: float


def cluster(z: Latents, count: int | Literal["auto"], *, examples: int = 8, seed: int = 0) -> Clusters:
    """k-means on latents; mini-batch k-means above 20,000.

    Args:
        z: the latents.
        count: number of clusters; `auto` for the number from 2 to 20 with the largest mean silhouette. There are fewer
            if there are fewer different latents.
        examples: largest number of nearest latents per cluster.
        seed: seed of the initial centroids.

    Raises:
        ConfigError: the number is not between 1 and the number of latents, or fewer than three latents for `auto`.
        DataError: a latent is not finite.
    """
    if not bool(z.isfinite().all()):
        raise DataError("some latents are NaN or infinite, so they cannot be clustered")
    points = z.flatten(1).double().numpy()
    tried = _silhouettes(points, seed) if count == "auto" else {}
    # If all latents are equal, no number has a silhouette.
    number = max(tried, key=lambda one: tried[one], default=1) if count == "auto" else count
    if not 1 <= number <= len(z):
        raise ConfigError(
            f"expected 1 to {len(z)} clusters for {count_text(len(z), 'latent')}, got {number}. Set a smaller "
            "number, or auto"
        )
    labels, means = _fit(points, number, seed)
    assigned = torch.from_numpy(labels)
    sizes = torch.bincount(assigned, minlength=number)
    order = sizes.argsort(descending=True, stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(number)
    assigned, found = rank[assigned], int((sizes > 0).sum())
    centroids = torch.from_numpy(means)[order[:found]]
    distances = (z.flatten(1).double() - centroids[assigned]).square().sum(1)
    nearest = []
    for one in range(found):
        members = (assigned == one).nonzero()[:, 0]
        nearest.append(members[distances[members].argsort(stable=True)[:examples]])
    silhouette = tried[number] if number in tried else _silhouette(points, labels, seed)
    return Clusters(centroids.to(z.dtype).view(found, *z.shape[1:]), assigned, nearest, silhouette, tried)


def _silhouettes(points: NDArray[np.float64], seed: int) -> dict[int, float]:
    """The silhouette by number of clusters."""
    if len(points) < 3:
        raise ConfigError(f"auto needs at least 3 latents, got {len(points)}. Set the number of clusters")
    found = {
        number: _silhouette(points, _fit(points, number, seed)[0], seed)
        for number in range(2, min(MOST, len(points) - 1) + 1)
    }
    return {number: silhouette for number, silhouette in found.items() if silhouette is not None}


def measure_agreement(assigned: Int64[Tensor, " image"], labels: Int64[Tensor, " image"]) -> Agreement | None:
    """Agreement of clusters with labels, -1 if missing; None with fewer than two classes."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    known = labels >= 0
    own, given = assigned[known].numpy(), labels[known].numpy()
    if len(np.unique(given)) < 2:
        return None
    return Agreement(len(own), float(adjusted_rand_score(given, own)), float(normalized_mutual_info_score(given, own)))


def _fit(points: NDArray[np.float64], count: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Cluster of each point, and the centroids."""
    from sklearn.cluster import KMeans, MiniBatchKMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        # With fewer distinct points than clusters, some clusters are empty.
        warnings.simplefilter("ignore", ConvergenceWarning)
        if len(points) > LARGE:
            fitted = MiniBatchKMeans(count, batch_size=4096, n_init=3, random_state=seed).fit(points)
        else:
            fitted = KMeans(count, n_init=4, random_state=seed).fit(points)
    return fitted.labels_.astype(np.int64), fitted.cluster_centers_


def _silhouette(points: NDArray[np.float64], assigned: NDArray[np.int64], seed: int) -> float | None:
    """The mean silhouette of at most `JUDGED` points; None if it is undefined."""
    from sklearn.metrics import silhouette_score

    if len(points) > JUDGED:
        chosen = np.sort(numpy_generator(seed, "silhouette").permutation(len(points))[:JUDGED])
        points, assigned = points[chosen], assigned[chosen]
    if not 2 <= len(np.unique(assigned)) <= len(points) - 1:
        return None
    return float(silhouette_score(points, assigned))
