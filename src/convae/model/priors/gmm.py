"""A Gaussian mixture model of the latents, fitted by expectation-maximization."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convae.core.arguments import Positive
from convae.core.errors import DataError
from convae.core.random import numpy_generator
from convae.core.types import Latents
from convae.model.bottlenecks.base import Bottleneck
from convae.model.priors._gaussians import LEAST_VARIANCE, Covariance, FittedGaussians, choose_covariance, shrink
from convae.model.priors.base import Prior

COMPONENTS = (1, 2, 4, 8, 16, 32)
"""Numbers of Gaussians among which the Bayesian information criterion chooses."""
LATENTS = 10_000
"""Largest number of latents for the fit."""
PER_COMPONENT = 20
"""Least number of latents per Gaussian."""


class GMM(FittedGaussians):
    """Gaussian mixture fitted to the latents of a trained model (Ghosh et al. 2020, arXiv:1903.12436).

    It helps where the aggregate posterior is far from the standard normal, so that samples of that are latents which
    the decoder has not seen. Fitted by scikit-learn's expectation-maximization to one posterior sample of each of at
    most 10,000 images. Full covariances are shrunk towards a multiple of the identity (Ledoit & Wolf 2004).

    Args:
        bottleneck: of the model, with a continuous latent.
        components: number of Gaussians; by default that of 1, 2, 4, … 32 with the lowest Bayesian information
            criterion.
        covariance: `full` or `diagonal`; by default full up to 256 latent values, if there are twice as many latents.

    Raises:
        ConfigError: the latents are codes.
    """

    example: ClassVar = {"components": 3}

    def __init__(
        self, bottleneck: Bottleneck, *, components: Positive | None = None, covariance: Covariance | None = None
    ) -> None:
        super().__init__(bottleneck, components or 1, covariance)

    @classmethod
    def fit(
        cls,
        bottleneck: Bottleneck,
        latents: Latents,
        labels: Tensor | None,  # noqa: ARG003  # for other priors
        seed: int,
        arguments: Mapping[str, Any],
    ) -> tuple[Prior, dict[str, Any]]:
        """The mixture fitted to latents, and its arguments with the number of components.

        Raises:
            DataError: there are fewer than two latents, or fewer than components.
        """
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture

        chosen = numpy_generator(seed, "fitted").permutation(len(latents))[:LATENTS]
        points = latents[torch.from_numpy(chosen)].flatten(1).double().numpy()
        wanted = arguments["components"]
        if len(points) < max(2, wanted or 0):
            raise DataError(f"prior gmm: {max(2, wanted or 0)} latents or more are needed, got {len(points)}")
        covariance = arguments["covariance"] or choose_covariance(points.shape[1], len(points))
        least = LEAST_VARIANCE * max(float(points.var(0).mean()), 1e-12)
        possible = [each for each in COMPONENTS if each == 1 or each * PER_COMPONENT <= len(points)]
        found: tuple[float, Any] | None = None
        with warnings.catch_warnings():
            # A mixture without convergence after 100 iterations is judged by its likelihood as well.
            warnings.simplefilter("ignore", ConvergenceWarning)
            for number in [wanted] if wanted else possible:
                kind = "full" if covariance == "full" else "diag"
                mixture = GaussianMixture(number, covariance_type=kind, reg_covar=least, random_state=seed).fit(points)
                if kind == "full":
                    _shrink_covariances(mixture, points)
                criterion = float(mixture.bic(points))
                if found is None or criterion < found[0]:
                    found = criterion, mixture
        assert found is not None  # one component is always possible
        best = found[1]
        count = len(best.weights_)
        prior = cls(bottleneck, components=count, covariance=covariance)
        roots = np.linalg.cholesky(best.covariances_) if prior.is_full else np.sqrt(best.covariances_)
        with torch.no_grad():
            prior.mean.copy_(torch.from_numpy(best.means_))
            prior.root.copy_(torch.from_numpy(roots))
            prior.logits.copy_(torch.from_numpy(np.log(best.weights_.clip(1e-12))))
        return prior, {"components": count, "covariance": covariance}


def _shrink_covariances(mixture: Any, points: NDArray[np.float64]) -> None:
    """Shrinks the covariance matrix of each component by the points that are nearest to it."""
    nearest = mixture.predict(points)
    for component, covariance in enumerate(mixture.covariances_):
        mixture.covariances_[component] = shrink(covariance, points[nearest == component])
    inverse = np.linalg.inv(np.linalg.cholesky(mixture.covariances_))
    mixture.precisions_cholesky_ = inverse.transpose(0, 2, 1)
