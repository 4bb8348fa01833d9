"""Clusters of latents: their centroids, what belongs to each, and its nearest examples."""

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
from convae.core.random import numpy_generator
from convae.core.types import Latents

LARGE = 20_000
"""With more latents than this, k-means sees a part of them at a time (Sculley 2010)."""
MOST = 20
"""Clusters that are tried at most where their number is to be chosen."""
JUDGED = 2_000
"""Latents whose silhouettes are computed at most, from all their pairs."""


@dataclass(frozen=True)
class Clusters:
    """Clusters, the largest first.

    Attributes:
        centroids: (cluster, *latent).
        assigned: (image,) number of the cluster of each latent.
        nearest: for each cluster, the positions of the latents nearest to its centroid, the nearest first.
        silhouette: mean silhouette of the latents, from -1 to 1: how much nearer they are to their own cluster than to
            the next (Rousseeuw 1987); None for one cluster, or where each latent is one.
        tried: the silhouette of every number of clusters that was tried; empty where the number was given.
    """

    centroids: Float[Tensor, cluster * latent]
    assigned: Int64[Tensor, " image"]
    nearest: list[Tensor]
    silhouette: float | None = None
    tried: dict[int, float] = field(default_factory=dict)

    @property
    def sizes(self) -> Int64[Tensor, " cluster"]:
        """How many latents belong to each cluster."""
        return torch.bincount(self.assigned, minlength=len(self.centroids))


@dataclass(frozen=True)
class Agreement:
    """How well clusters match the classes of labeled images; neither knows what the other is called.

    Attributes:
        images: that have a label.
        adjusted_rand: adjusted Rand index: 1 for equal partitions, 0 for chance (Hubert & Arabie 1985).
        normalized_mutual_information: from 0 to 1, by the arithmetic mean of both entropies.
    """

    images: int
    adjusted_rand: float
    normalized_mutual_information: float


def cluster(z: Latents, count: int | Literal["auto"], *, examples: int = 8, seed: int = 0) -> Clusters:
    """k-means on latents; mini-batches of them where there are more than 20,000.

    Args:
        z: the latents.
        count: how many clusters; `auto` for the number from 2 to 20 with the largest mean silhouette.
        examples: at most how many nearest latents are listed for each.
        seed: of the first centroids.

    Raises:
        ConfigError: not from one cluster to as many as there are latents, or fewer than three latents to choose from.
        DataError: a latent is not finite.
    """
    if not bool(z.isfinite().all()):
        raise DataError("clusters need finite latents, and some of these are NaN or infinite")
    points = z.flatten(1).double().numpy()
    tried = _tried(points, seed) if count == "auto" else {}
    # All latents may be one point.
    number = max(tried, key=lambda one: tried[one], default=1) if count == "auto" else count
    if not 1 <= number <= len(z):
        raise ConfigError(f"{len(z)} latents make 1 to {len(z)} clusters, got {number}: give a smaller number, or auto")
    labels, middles = _fit(points, number, seed)
    assigned = torch.from_numpy(labels)
    order = torch.bincount(assigned, minlength=number).argsort(descending=True, stable=True)
    place = torch.empty_like(order)
    place[order] = torch.arange(number)
    assigned = place[assigned]
    centroids = torch.from_numpy(middles)[order]
    distances = (z.flatten(1).double() - centroids[assigned]).square().sum(1)
    nearest = []
    for one in range(number):
        members = (assigned == one).nonzero()[:, 0]
        nearest.append(members[distances[members].argsort(stable=True)[:examples]])
    silhouette = tried[number] if number in tried else _silhouette(points, labels, seed)
    return Clusters(centroids.to(z.dtype).view(number, *z.shape[1:]), assigned, nearest, silhouette, tried)


def _tried(points: NDArray[np.float64], seed: int) -> dict[int, float]:
    """The silhouette of every number of clusters that can be chosen."""
    if len(points) < 3:
        raise ConfigError(f"a number of clusters is chosen among three latents or more, got {len(points)}: give one")
    found = {
        number: _silhouette(points, _fit(points, number, seed)[0], seed)
        for number in range(2, min(MOST, len(points) - 1) + 1)
    }
    return {number: silhouette for number, silhouette in found.items() if silhouette is not None}


def agreement(assigned: Int64[Tensor, " image"], labels: Int64[Tensor, " image"]) -> Agreement | None:
    """How well clusters match labels, -1 where one is missing; None where there are no two classes."""
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
        # Fewer different points than clusters: some are empty, which their sizes show.
        warnings.simplefilter("ignore", ConvergenceWarning)
        if len(points) > LARGE:
            fitted = MiniBatchKMeans(count, batch_size=4096, n_init=3, random_state=seed).fit(points)
        else:
            fitted = KMeans(count, n_init=4, random_state=seed).fit(points)
    return fitted.labels_.astype(np.int64), fitted.cluster_centers_


def _silhouette(points: NDArray[np.float64], assigned: NDArray[np.int64], seed: int) -> float | None:
    """The mean silhouette of at most `JUDGED` points; None where it means nothing."""
    from sklearn.metrics import silhouette_score

    if len(points) > JUDGED:
        chosen = np.sort(numpy_generator(seed, "silhouette").permutation(len(points))[:JUDGED])
        points, assigned = points[chosen], assigned[chosen]
    if not 2 <= len(np.unique(assigned)) <= len(points) - 1:
        return None
    return float(silhouette_score(points, assigned))
