"""Clusters of latents: their centroids, what belongs to each, and its nearest examples."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from convae.core.errors import ConfigError
from convae.core.types import Latents

LARGE = 20_000
"""With more latents than this, k-means sees a part of them at a time (Sculley 2010)."""


@dataclass(frozen=True)
class Clusters:
    """Clusters, the largest first.

    Attributes:
        centroids: (cluster, *latent).
        assigned: (image,) number of the cluster of each latent.
        nearest: for each cluster, the positions of the latents nearest to its centroid, the nearest first.
    """

    centroids: Float[Tensor, cluster * latent]
    assigned: Int64[Tensor, " image"]
    nearest: list[Tensor]

    @property
    def sizes(self) -> Int64[Tensor, " cluster"]:
        """How many latents belong to each cluster."""
        return torch.bincount(self.assigned, minlength=len(self.centroids))


def cluster(z: Latents, count: int, *, examples: int = 8, seed: int = 0) -> Clusters:
    """k-means on latents; mini-batches of them where there are more than 20,000.

    Args:
        z: the latents.
        count: how many clusters.
        examples: at most how many nearest latents are listed for each.
        seed: of the first centroids.

    Raises:
        ConfigError: not from one cluster to as many as there are latents.
    """
    from sklearn.cluster import KMeans, MiniBatchKMeans

    if not 1 <= count <= len(z):
        raise ConfigError(f"{len(z)} latents make 1 to {len(z)} clusters, got {count}")
    points = z.flatten(1).double().numpy()
    if len(z) > LARGE:
        fitted = MiniBatchKMeans(count, batch_size=4096, n_init=3, random_state=seed).fit(points)
    else:
        fitted = KMeans(count, n_init=4, random_state=seed).fit(points)
    assigned = torch.from_numpy(fitted.labels_.astype("int64"))
    order = torch.bincount(assigned, minlength=count).argsort(descending=True, stable=True)
    place = torch.empty_like(order)
    place[order] = torch.arange(count)
    assigned = place[assigned]
    centroids = torch.from_numpy(fitted.cluster_centers_)[order]
    distances = (z.flatten(1).double() - centroids[assigned]).square().sum(1)
    nearest = []
    for number in range(count):
        members = (assigned == number).nonzero()[:, 0]
        nearest.append(members[distances[members].argsort(stable=True)[:examples]])
    return Clusters(centroids.to(z.dtype).view(count, *z.shape[1:]), assigned, nearest)
