"""A Gaussian per class in latent space, for sampling and classification."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from convae.core.errors import DataError
from convae.core.random import torch_generator
from convae.core.types import Latents, Shape
from convae.latents.encoding import Encoding
from convae.latents.quantized import require_continuous

FEWEST = 2
"""Least number of images for the Gaussian of a class."""


@dataclass(frozen=True)
class ClassGaussians:
    """A Gaussian over the latents of each class, as in quadratic discriminant analysis.

    Attributes:
        labels: (class,) class numbers, ascending.
        fractions: (class,) fractions of the labeled images.
        means: (class, value) means.
        roots: (class, value, value) Cholesky factors of the covariances.
        shape: shape of a latent.
    """

    labels: Int64[Tensor, " class"]
    fractions: Float64[Tensor, " class"]
    means: Float64[Tensor, "class value"]
    roots: Float64[Tensor, "class value value"]
    shape: Shape

    def draw(self, label: int, count: int, *, seed: int = 0, first: int = 0) -> Latents:
        """Samples `count` latents of a class, from index `first`; sample n is the same for any count.

        Raises:
            DataError: unknown class.
        """
        where = (self.labels == label).nonzero()
        if not len(where):
            raise DataError(f"unknown class {label}: the classes are {self.labels.tolist()}")
        row = int(where[0, 0])
        size = self.means.shape[1]
        noise = [
            torch.randn(size, generator=torch_generator(seed, "class", label, number), dtype=torch.float64)
            for number in range(first, first + count)
        ]
        z = self.means[row] + torch.stack(noise) @ self.roots[row].T
        return z.float().view(count, *self.shape)

    def posterior(self, z: Latents) -> Float64[Tensor, "batch class"]:
        """The probability of each class at each latent."""
        points = z.flatten(1).double()
        logits = []
        for fraction, mean, root in zip(self.fractions, self.means, self.roots, strict=True):
            scaled = torch.linalg.solve_triangular(root, (points - mean).T, upper=False)
            logits.append(fraction.log() - root.diagonal().log().sum() - 0.5 * scaled.square().sum(0))
        return torch.stack(logits, dim=1).softmax(1)

    def label(self, z: Latents) -> Int64[Tensor, " batch"]:
        """The most probable class of each latent."""
        return self.labels[self.posterior(z).argmax(1)]


def fit_class_gaussians(encoding: Encoding) -> ClassGaussians:
    """Fits a Gaussian to the aggregate posterior of each class.

    The covariance is that of the posterior means plus the mean of the posterior variances, so that it is invertible for
    classes of few images.

    Raises:
        DataError: no labels, or a class of one image.
        ConfigError: the latents are codes.
    """
    require_continuous(encoding, "a Gaussian of each class")
    if encoding.labels is None or not bool((encoding.labels >= 0).any()):
        raise DataError("Gaussians per class need labeled images, but no image has a label")
    labels, counts = torch.unique(encoding.labels[encoding.labels >= 0], return_counts=True)
    if int(counts.min()) < FEWEST:
        raise DataError(f"class {int(labels[counts.argmin()])} has one image, but a Gaussian needs {FEWEST}")
    means, roots = [], []
    for label in labels:
        own = encoding.labels == label
        points = encoding.mean[own].flatten(1).double()
        within = encoding.logvar[own].flatten(1).double().exp().mean(0)
        covariance = torch.cov(points.T).reshape(points.shape[1], -1) + within.diag()
        means.append(points.mean(0))
        roots.append(torch.linalg.cholesky(covariance))
    fractions = counts.double() / math.fsum(counts.tolist())
    return ClassGaussians(labels, fractions, torch.stack(means), torch.stack(roots), tuple(encoding.mean.shape[1:]))
