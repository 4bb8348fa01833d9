"""The von Mises-Fisher posterior on the unit sphere."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from convae.core.noise import Generators, normal_like
from convae.core.posterior import MIN_LOGVAR, Posterior
from convae.core.types import PerImage
from convae.model.posteriors._bessel import bessel

Vectors = Float[Tensor, "batch value"]

PROPOSALS = 24
"""Proposals of the rejection sampler for each latent: at least 0.65 of them are accepted, so all are rejected with a
probability below 1e-10. A fixed number keeps the noise of an image independent of the other images."""
NODES = 64
"""Points of the quadrature for the gradient."""
WIDTHS = 10.0
"""Standard deviations of the angle beyond which the quadrature ends."""


@dataclass(frozen=True)
class VonMisesFisherPosterior(Posterior):
    """Von Mises-Fisher distribution on the sphere, with the uniform prior (Davidson et al. 2018, arXiv:1804.00891).

    q(z | x) ∝ exp(κ μᵀz) for unit vectors z. Densities are with respect to the area of the sphere, in nats.

    Attributes:
        mean: (batch, value), the mean direction μ, unit vectors.
        concentration: (batch,), κ ≥ 0.
    """

    mean: Vectors
    concentration: PerImage

    @property
    def is_spherical(self) -> bool:
        """True."""
        return True

    @property
    def logvar(self) -> Vectors:  # type: ignore[override]  # of the distribution
        """(batch, value), natural logarithm of the variance of each value by itself."""
        kappa, (_, ratio) = self._kappa[:, None], self._bessel
        ratio = ratio[:, None]
        # Σ = ratio I + (1 − D ratio − A²) μ μᵀ with A = κ ratio, the length of the expectation.
        beside = 1 - self.mean.shape[1] * ratio - (kappa * ratio).square()
        variance = ratio + beside * _wide(self.mean).square()
        return variance.clamp_min(math.exp(MIN_LOGVAR)).log().to(self.mean.dtype)

    def sample(self, generator: Generators | None = None) -> Vectors:
        """One unit vector for each image, by rejection sampling (Wood 1994), differentiable.

        The gradient with respect to κ is that of the inverse of the distribution function of the angle (Figurnov et al.
        2018, arXiv:1805.08498): without bias, unlike that of the accepted proposal alone.
        """
        count, size = self.mean.shape
        normal = normal_like(self.mean.new_empty(count, PROPOSALS * (size + 1) + size), generator)
        proposals, tangents = normal.split([PROPOSALS * (size + 1), size], 1)
        angle = self._draw_angle(_wide(proposals).view(count, PROPOSALS, size + 1))
        along = (tangents * self.mean).sum(1, keepdim=True)
        tangent = torch.nn.functional.normalize(tangents - along * self.mean, dim=1)
        angle = angle.to(self.mean.dtype)[:, None]
        return torch.cos(angle) * self.mean + torch.sin(angle) * tangent

    def kl(self) -> PerImage:
        """KL divergence from the uniform distribution on the sphere, nats per image."""
        log_scaled, ratio = self._bessel
        return (self._kappa.square() * ratio - log_scaled).to(self.mean.dtype)

    def log_prob(self, z: Vectors) -> PerImage:
        """Log q(z | x), nats."""
        along = (_wide(self.mean) * _wide(z)).sum(1)
        density = self._kappa * along - self._bessel[0] - log_area(self.mean.shape[1])
        return density.to(self.mean.dtype)

    def log_prior(self, z: Vectors) -> PerImage:
        """Minus the logarithm of the area of the sphere, nats."""
        return z.new_full((len(z),), -log_area(z.shape[1]))

    # The first use of both may be within `no_grad`, and later ones need their gradient.
    @cached_property
    def _kappa(self) -> PerImage:
        with torch.set_grad_enabled(self.concentration.requires_grad):
            return _wide(self.concentration)

    @cached_property
    def _bessel(self) -> tuple[PerImage, PerImage]:
        with torch.set_grad_enabled(self.concentration.requires_grad):
            return bessel(self.mean.shape[1] / 2 - 1, self._kappa)

    def _draw_angle(self, normal: Tensor) -> PerImage:
        """The angle to the mean direction, (batch,), of noise (batch, proposal, value + 1)."""
        with torch.no_grad():
            kappa, dimension = self._kappa[:, None], self.mean.shape[1]
            first, rest, uniform = normal[..., 0], normal[..., 1:-1].square().sum(2), normal[..., -1]
            # A coordinate of a uniform unit vector is 2ε − 1 for ε ~ Beta((D − 1)/2, (D − 1)/2).
            length = (first.square() + rest).sqrt()
            odds = (length + first).square() / rest  # ε / (1 − ε)
            spread = (dimension - 1) / (2 * kappa + (4 * kappa.square() + (dimension - 1) ** 2).sqrt())
            angle = 2 * torch.atan((spread * odds).sqrt())
            cosine, start = torch.cos(angle), (1 - spread) / (1 + spread)
            log_ratio = kappa * (cosine - start) + (dimension - 1) * torch.log((1 - start * cosine) / (1 - start**2))
            # The index of the first accepted proposal.
            chosen = (log_ratio >= torch.special.log_ndtr(uniform)).to(torch.int8).argmax(1, keepdim=True)
            found = angle.gather(1, chosen)[:, 0]
        if not self._kappa.requires_grad:
            return found
        return found + (self._kappa - self._kappa.detach()) * self._slope(found)

    @torch.no_grad()
    def _slope(self, angle: PerImage) -> PerImage:
        """The derivative of the angle with respect to κ at a fixed value of its distribution function, by quadrature.

        The density is p(θ) ∝ exp(κ cos θ) sin^{D−2} θ, so the derivative is −∫₀^θ (cos φ − A) p(φ) dφ / p(θ), which is
        also the integral from θ to π; the one whose integrand has one sign is taken.
        """
        kappa, power = self._kappa[:, None], self.mean.shape[1] - 2
        mean = kappa * self._bessel[1][:, None]
        theta = angle[:, None]
        width = WIDTHS / kappa.clamp_min(max(power, 1e-6)).sqrt()
        is_above = torch.cos(theta) >= mean
        end = torch.where(is_above, (theta - width).clamp_min(0), (theta + width).clamp_max(math.pi))
        points, weights = (torch.from_numpy(each).to(theta) for each in np.polynomial.legendre.leggauss(NODES))
        phi = theta + (end - theta) * (points + 1) / 2
        # cos φ − cos θ without cancellation.
        growth = 2 * kappa * torch.sin((theta + phi) / 2) * torch.sin((theta - phi) / 2)
        relative = torch.exp(growth + power * torch.log(torch.sin(phi) / torch.sin(theta)))
        values = (torch.cos(phi) - mean) * relative
        integral = (values * weights).sum(1) * (theta - end)[:, 0].abs() / 2
        return torch.where(is_above[:, 0], -integral, integral)


def log_area(size: int) -> float:
    """Logarithm of the area of the unit sphere in `size` dimensions."""
    return math.log(2) + size / 2 * math.log(math.pi) - math.lgamma(size / 2)


def _wide(values: Tensor) -> Tensor:
    """Values in float64, which Apple's GPUs lack."""
    return values.float() if values.device.type == "mps" else values.double()
