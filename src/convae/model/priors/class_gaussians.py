"""A Gaussian over the latents of each class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from convae.core.arguments import NonNegative
from convae.core.errors import DataError
from convae.core.types import Latents
from convae.model.bottlenecks.base import Bottleneck
from convae.model.priors._gaussians import LEAST_VARIANCE, Covariance, FittedGaussians, choose_covariance, shrink
from convae.model.priors.base import Prior

FEWEST = 2
"""Least number of images for the Gaussian of a class."""


class ClassGaussians(FittedGaussians):
    """A Gaussian over the latents of each class, as in quadratic discriminant analysis: samples by label.

    Full covariances are shrunk towards a multiple of the identity (Ledoit & Wolf 2004), by more the fewer images a
    class has.

    Without labels, samples are of any class, by its frequency in the training images, and `log_prob` is that of the
    mixture of the classes.

    Args:
        bottleneck: of the model, with a continuous latent.
        classes: number of classes; `convae prior` takes that of the labels.
        covariance: `full` or `diagonal`; by default full up to 256 latent values, if every class has twice as many
            latents.

    Raises:
        ConfigError: the latents are codes.
    """

    example: ClassVar = {"classes": 3}

    def __init__(
        self, bottleneck: Bottleneck, *, classes: NonNegative = 0, covariance: Covariance | None = None
    ) -> None:
        super().__init__(bottleneck, max(classes, 1), covariance)
        self.classes = classes

    @classmethod
    def fit(
        cls,
        bottleneck: Bottleneck,
        latents: Latents,
        labels: Tensor | None,
        seed: int,  # noqa: ARG003  # for other priors
        arguments: Mapping[str, Any],
    ) -> tuple[Prior, dict[str, Any]]:
        """The Gaussians fitted to labeled latents, and their arguments.

        Raises:
            DataError: there are no labels, or a class has fewer than two images.
        """
        classes = arguments["classes"]
        if labels is None or not classes or not bool((labels >= 0).any()):
            raise DataError("prior class-gaussians: the training images have no labels. Use the prior gmm")
        counts = torch.bincount(labels[labels >= 0], minlength=classes)
        if len(counts) > classes or int(counts.min()) < FEWEST:
            few = int(counts.argmin())
            raise DataError(
                f"prior class-gaussians: each of {classes} classes needs {FEWEST} images, and the label {few} has "
                f"{int(counts[few])}; labels go up to {len(counts) - 1}"
            )
        points = latents.flatten(1).double()
        covariance = arguments["covariance"] or choose_covariance(points.shape[1], int(counts.min()))
        prior = cls(bottleneck, classes=classes, covariance=covariance)
        least = LEAST_VARIANCE * max(float(points.var(0).mean()), 1e-12)
        with torch.no_grad():
            for label in range(classes):
                own = points[labels == label]
                prior.mean[label] = own.mean(0)
                if prior.is_full:
                    matrix = np.cov(own.numpy(), rowvar=False).reshape(points.shape[1], -1)
                    shrunk = torch.from_numpy(shrink(matrix, own.numpy()))
                    prior.root[label] = torch.linalg.cholesky(shrunk + least * torch.eye(points.shape[1]))
                else:
                    prior.root[label] = (own.var(0) + least).sqrt()
            prior.logits.copy_((counts / counts.sum()).log())
        return prior, {"classes": classes, "covariance": covariance}
