"""What the page holds besides the network: encoded data points, axes of the plane, directions of classes."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from convae.core.random import numpy_generator
from convae.latents import Encoding, kl_per_dimension, project
from convae.latents.traversals import has_kl_per_dimension
from convae.model.vae import VAE

MAX_POINTS = 10_000
MAX_BYTES = 1_200_000
"""Of the data points: fewer are taken of a model with a large latent."""
_COMPONENTS = 4
_FITTED = 4000

Map = Literal["tsne", "umap"]
"""A projection without axes."""
NAMES: dict[Map, str] = {"tsne": "t-SNE", "umap": "UMAP"}


def most_points(latent_size: int) -> int:
    """The number of data points whose latents fit into the page."""
    return max(64, min(MAX_POINTS, MAX_BYTES // (2 * latent_size)))


class Blob:
    """Vectors of the page in one array of float32, named by offset and length."""

    def __init__(self) -> None:
        self.content = bytearray()

    def add(self, values: NDArray[Any]) -> list[int]:
        """Appends values; returns their offset and length."""
        begin = len(self.content) // 4
        self.content += values.astype("<f4").tobytes()
        return [begin, values.size]


def describe_points(model: VAE, encoding: Encoding, blob: Blob, projection: Map | None = None) -> dict[str, Any]:
    """The entries of the page for encoded images: (image, *latent) as 16-bit steps between the extremes of each value.

    Args:
        model: of the page.
        encoding: of the images, at least one.
        blob: takes the vectors.
        projection: of the map; None for none.
    """
    means = encoding.mean.flatten(1).double().numpy()
    low, high = means.min(0), means.max(0)
    span = np.where(high > low, high - low, 1.0)
    steps = np.rint((means - low) / span * 65535).astype("<u2")
    spread = np.sqrt(means.var(0) + 1e-12)
    has_codes = any(each.codebook_sizes for each in model.latent_modules)
    rank = spread if has_codes else kl_per_dimension(encoding).double().numpy()
    kl = rank if has_kl_per_dimension(model) else None
    labels = [-1] * len(means) if encoding.labels is None else encoding.labels.tolist()
    return {
        "count": len(means),
        "points": base64.b64encode(steps.tobytes()).decode(),
        "labels": labels,
        "mean": blob.add(means.mean(0)),
        "low": blob.add(low),
        "high": blob.add(low + span),
        "spread": blob.add(spread),
        "kl": None if kl is None else blob.add(kl),
        "order": np.argsort(-rank, kind="stable").tolist(),
        "components": [blob.add(row) for row in _components(means)],
        "directions": _directions(means, labels, encoding.classes or [], blob),
        "map": None if projection is None else _map(encoding, projection, blob),
    }


def _map(encoding: Encoding, projection: Map, blob: Blob) -> dict[str, Any]:
    """The name of a projection and the two coordinates of each data point."""
    points = project(encoding.mean, projection).points.numpy()
    return {"name": NAMES[projection], "x": blob.add(points[:, 0]), "y": blob.add(points[:, 1])}


def _components(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """The first principal components, (component, value); none of latents that are all equal."""
    count = min(_COMPONENTS, means.shape[1], len(means) - 1)
    if count < 1 or not means.var(0).any():
        return np.zeros((0, means.shape[1]))
    rows = means if len(means) <= _FITTED else numpy_generator(0, "explorer").choice(means, _FITTED, replace=False)
    found: NDArray[np.float64] = PCA(count, svd_solver="randomized", random_state=0).fit(rows).components_
    return found


def _directions(
    means: NDArray[np.float64], labels: Sequence[int], classes: Sequence[str], blob: Blob
) -> list[dict[str, Any]]:
    """From the mean of all latents to that of each class, by its name."""
    own, middle = np.asarray(labels), means.mean(0)
    return [
        {"name": name, "vector": blob.add(means[own == number].mean(0) - middle)}
        for number, name in enumerate(classes[:100])
        if (own == number).any()
    ]
