"""Projection of latents to two dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from convae.core.errors import ConfigError, DataError
from convae.core.names import count_text
from convae.core.types import Latents

FEWEST = 5
"""Least number of points for t-SNE and UMAP."""
Method = Literal["auto", "raw", "pca", "tsne", "umap"]


@dataclass(frozen=True)
class Projection:
    """Projected latents.

    Attributes:
        points: (image, 2), or (image, 1) for latents with one value.
        labels: axis labels.
    """

    points: Float[Tensor, "image axis"]
    labels: tuple[str, ...]


def project(z: Latents, method: Method = "auto", *, seed: int = 0) -> Projection:
    """Projects latents to two dimensions.

    Args:
        z: the latents.
        method: `raw`, the values of latents with one or two; `pca`; `tsne` (van der Maaten & Hinton 2008); `umap`
            (McInnes et al. 2018), from the extra `umap`; `auto`, raw for one or two values and PCA otherwise.
        seed: seed of UMAP; t-SNE begins with the principal components.

    Raises:
        ConfigError: the method does not support these latents or so few, or its package is not installed.
        DataError: a latent is not finite.
    """
    if not bool(z.isfinite().all()):
        raise DataError("some latents are NaN or infinite, so they cannot be projected")
    points = z.flatten(1).double()
    size = points.shape[1]
    if method == "auto":
        method = "raw" if size <= 2 else "pca"
    if method == "raw":
        if size > 2:
            raise ConfigError(f"raw needs latents of 1 or 2 values, got {size}. Use pca, tsne or umap")
        return Projection(points, ("latent value 0", "latent value 1")[:size])
    if size == 1:
        raise ConfigError(f"{method} needs latents of at least 2 values, got 1. Use raw")
    if method == "pca":
        return _pca(points)
    if len(points) < FEWEST:
        raise ConfigError(f"{method} needs {count_text(FEWEST, 'image')}, got {len(points)}")
    if _are_equal(points):  # from which the libraries compute NaN, or crash
        raise ConfigError(f"{method} needs different latents, and all {len(points):,} are equal. Use pca")
    if method == "tsne":
        from sklearn.manifold import TSNE

        perplexity = min(30.0, (len(points) - 1) / 3)
        found = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(points.numpy())
        return Projection(torch.from_numpy(found).double(), ("t-SNE 1", "t-SNE 2"))
    return _umap(points, seed)


def _pca(points: Tensor) -> Projection:
    """The first two principal components, with their fractions of the variance."""
    from sklearn.decomposition import PCA

    if min(points.shape) < 2:
        raise ConfigError(f"pca needs at least 2 latents of 2 values, got {points.shape[0]} of {points.shape[1]}")
    if _are_equal(points):  # a collapsed posterior
        found, fractions = points.new_zeros(len(points), 2), [0.0, 0.0]
    else:
        fitted = PCA(2, svd_solver="full").fit(points.numpy())
        found, fractions = torch.from_numpy(fitted.transform(points.numpy())), fitted.explained_variance_ratio_
    first, second = (f"principal direction {n} ({fraction:.0%})" for n, fraction in zip("12", fractions, strict=True))
    return Projection(found, (first, second))


def _are_equal(points: Tensor) -> bool:
    return bool((points == points[:1]).all())


def _umap(points: Tensor, seed: int) -> Projection:
    try:
        from umap import UMAP
    except ImportError as error:
        raise ConfigError("umap needs the package umap-learn: pip install 'convae[umap]'") from error
    found = UMAP(n_components=2, random_state=seed, n_jobs=1).fit_transform(points.numpy())
    return Projection(torch.from_numpy(found).double(), ("UMAP 1", "UMAP 2"))
