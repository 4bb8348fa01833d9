"""Mixtures of diagonal Gaussians as priors."""

from __future__ import annotations

import torch
from torch import Tensor

from convae.core.noise import Generators, normal_like
from convae.core.posterior import LOG_TWO_PI
from convae.core.precision import at_least_float32, full_precision
from convae.core.types import Latents, PerImage
from convae.model.priors.base import Prior


class DiagonalMixture(Prior):
    """Mixture of diagonal Gaussians over flattened latents."""

    def components(self) -> tuple[Tensor, Tensor, Tensor]:
        """Means and log-variances, (component, value) each, and the logits of the weights, (component,)."""
        raise NotImplementedError

    def sample(
        self,
        count: int,
        noise: Generators | None = None,
        labels: Tensor | None = None,  # for other priors
        temperature: float = 1.0,
    ) -> Latents:
        """Latents, (count, *latent): a component by its weight, then a sample from it, as in `Prior.sample`."""
        mean, logvar, logits = self.components()
        normal = normal_like(mean.new_empty(count, 1 + mean.shape[1]), noise)
        chosen = draw_components(logits, normal[:, 0])
        z = mean[chosen] + temperature * torch.exp(0.5 * logvar[chosen]) * normal[:, 1:]
        return z.view(count, *self.latent_shape)

    def log_prob(self, z: Latents) -> PerImage:
        """Log p(z), nats; computed in float64 (float32 on MPS)."""
        dtype = torch.float32 if z.device.type == "mps" else torch.float64
        x, mean, logvar, logits = (each.to(dtype) for each in (z.flatten(1), *self.components()))
        with full_precision(z.device):
            # Σ (z − μ)² / σ² as matrix products, without a tensor (batch, component, value). For narrow components,
            # most digits of the products cancel, hence float64.
            precision = torch.exp(-logvar)
            squares = x.square() @ precision.T - 2 * x @ (mean * precision).T + (mean.square() * precision).sum(1)
            each = -0.5 * (squares + (logvar + LOG_TWO_PI).sum(1))
            return torch.logsumexp(each + torch.log_softmax(logits, 0), 1).to(at_least_float32(z).dtype)


def draw_components(logits: Tensor, normal: Tensor) -> Tensor:
    """Draws a component for each sample, (count,), by its weight.

    Args:
        logits: (component,), of the weights.
        normal: (count,), a standard normal value for each sample, so that one noise stream serves all draws.
    """
    ends = torch.softmax(logits.double(), 0).cumsum(0)
    uniform = torch.special.ndtr(normal.double())
    return torch.searchsorted(ends, uniform * ends[-1], right=True).clamp_max(len(ends) - 1)
