"""A prior fitted after the training: a mixture of Gaussians over the latents of images.

If the aggregate posterior is far from the standard normal, samples of the prior are outside of it and look worse than
reconstructions. A mixture fitted to the aggregate posterior avoids this (Ghosh et al. 2020, arXiv:1903.12436).
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from convae.core.errors import ConfigError, DataError
from convae.core.random import numpy_generator, torch_generator
from convae.core.types import Latents, Shape
from convae.latents.encoding import Encoding
from convae.latents.quantized import require_continuous

COMPONENTS = (1, 2, 4, 8, 16, 32)
"""Candidate numbers of Gaussians."""
LATENTS = 10_000
"""Largest number of latents for the fit."""
PER_COMPONENT = 20
"""Least number of latents per Gaussian."""
LARGEST_FULL = 256
"""Latent values beyond which, or beyond half the number of latents, covariances are diagonal."""


@dataclass(frozen=True)
class FittedPrior:
    """A mixture of Gaussians over latents.

    Attributes:
        weights: (component,) with a sum of 1.
        means: (component, value).
        roots: (component, value, value) Cholesky factors of the covariances.
        shape: shape of a latent.
        bic: Bayesian information criterion by number of components; the lowest was chosen.
    """

    weights: Float64[Tensor, " component"]
    means: Float64[Tensor, "component value"]
    roots: Float64[Tensor, "component value value"]
    shape: Shape
    bic: dict[int, float]

    def draw(self, count: int, *, seed: int = 0, temperature: float = 1.0) -> Latents:
        """Samples `count` latents; sample n is the same for any count.

        Args:
            count: number of samples.
            seed: random seed.
            temperature: factor on the standard deviation of each Gaussian.

        Raises:
            ConfigError: the temperature is negative or not finite.
        """
        if not 0 <= temperature < math.inf:
            raise ConfigError(f"the temperature is a number of at least 0, got {temperature:g}")
        ends = self.weights.cumsum(0)
        drawn = torch.empty(count, self.means.shape[1], dtype=torch.float64)
        for number in range(count):
            generator = torch_generator(seed, "fitted", number)
            place = torch.rand((), generator=generator, dtype=torch.float64) * ends[-1]
            component = min(int(torch.searchsorted(ends, place, right=True)), len(ends) - 1)
            noise = torch.randn(self.means.shape[1], generator=generator, dtype=torch.float64)
            drawn[number] = self.means[component] + temperature * self.roots[component] @ noise
        return drawn.float().view(count, *self.shape)


def fit_prior(encoding: Encoding, *, seed: int = 0) -> FittedPrior:
    """Fits a mixture of Gaussians to one posterior sample per image.

    The number of Gaussians has the lowest Bayesian information criterion.

    Args:
        encoding: posteriors of images, such as the training images.
        seed: seed of the samples and of the fit.

    Raises:
        ConfigError: the latents are codes.
        DataError: fewer than two images.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    require_continuous(encoding, "a fitted prior")
    if len(encoding) < 2:
        raise DataError(f"a prior is fitted to the latents of two images or more, got {len(encoding)}")
    chosen = torch.from_numpy(numpy_generator(seed, "fitted").permutation(len(encoding))[:LATENTS])
    mean, logvar = encoding.mean[chosen].flatten(1).double(), encoding.logvar[chosen].flatten(1).double()
    noise = torch.randn(mean.shape, generator=torch_generator(seed, "fitted"), dtype=torch.float64)
    points = (mean + (0.5 * logvar).exp() * noise).numpy()
    count, size = points.shape
    kind = "full" if size <= min(LARGEST_FULL, count // 2) else "diag"
    least = 1e-6 * max(float(points.var(0).mean()), 1e-12)
    fits = {}
    with warnings.catch_warnings():
        # A mixture without convergence after 100 iterations is judged by its likelihood as well.
        warnings.simplefilter("ignore", ConvergenceWarning)
        for components in COMPONENTS:
            if components == 1 or components * PER_COMPONENT <= count:
                mixture = GaussianMixture(components, covariance_type=kind, reg_covar=least, random_state=seed)
                fits[components] = mixture.fit(points)
    bic = {components: float(mixture.bic(points)) for components, mixture in fits.items()}
    best = fits[min(bic, key=lambda components: bic[components])]
    covariances = torch.from_numpy(best.covariances_)
    roots = torch.linalg.cholesky(covariances) if kind == "full" else covariances.sqrt().diag_embed()
    shape = tuple(encoding.mean.shape[1:])
    return FittedPrior(torch.from_numpy(best.weights_), torch.from_numpy(best.means_), roots, shape, bic)
