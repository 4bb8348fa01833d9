"""The prior p(z): a module of the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from convae.core.noise import Generators, normal_like
from convae.core.posterior import LOG_TWO_PI, EstimatedPosterior, Posterior
from convae.core.precision import at_least_float32, full_precision
from convae.core.types import Latents, PerImage, Shape
from convae.model.bottlenecks.base import Bottleneck


class Prior(nn.Module):
    """Prior p(z) over the latents of a model, or over the codes of its codebook.

    The constructor takes the model's bottleneck, for its shapes, and its configuration as keyword-only arguments; it
    initializes its parameters.

    Attributes:
        has_closed_kl: whether the KL divergence of the model's posteriors from it has a closed form.
        draws_codes: whether `sample` returns code indices, (count, *grid), instead of latents, (count, *latent).
    """

    example: ClassVar[Mapping[str, Any]] = {}
    has_closed_kl: ClassVar[bool] = False
    draws_codes: ClassVar[bool] = False
    like: Tensor

    def __init__(self, bottleneck: Bottleneck) -> None:
        super().__init__()
        self.latent_shape = bottleneck.latent_shape
        # Samples have the type and the device that the model was moved to, though a prior may have no parameters.
        self.register_buffer("like", torch.empty(0, device="cpu"), persistent=False)

    def sample(
        self,
        count: int,
        noise: Generators | None = None,
        labels: Tensor | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """Latents, (count, *latent), or codes, (count, *grid), drawn from the prior.

        Args:
            count: number of samples.
            noise: one generator, or one for each sample; torch's default generator without it.
            labels: (count,) class numbers, for a prior that depends on them.
            temperature: factor on the standard deviation; a prior over codes divides its logits by it.

        Raises:
            ShapeError: there is not one generator for each sample.
        """
        raise NotImplementedError

    def log_prob(self, z: Latents) -> PerImage:
        """Log p(z) of latents, (batch, *latent), nats; of a prior over codes the probability of their codes."""
        raise NotImplementedError

    def relate(self, posterior: Posterior, latent: Latents) -> Posterior:
        """The posterior with this as its prior: its `kl` is the divergence from it.

        A prior to which the divergence has a closed form returns a posterior with that; by default it is estimated.

        Args:
            posterior: q(z | x).
            latent: (batch, *latent), drawn from it, for the estimate.
        """
        return EstimatedPosterior(posterior, latent, self.log_prob)

    def bind(self, encode: Callable[[Tensor], Posterior], input_shape: Shape) -> None:
        """Gives a prior that is made of posteriors the model's encoder; called once, by the model.

        Args:
            encode: images, (batch, channel, *sizes) in [0, 1], to their posteriors.
            input_shape: (channels, *sizes) of the images.
        """

    def reset(self, generator: torch.Generator | None = None) -> None:
        """Initializes parameters and buffers, with a CPU generator."""


def mixture_log_prob(z: Tensor, mean: Tensor, logvar: Tensor, logits: Tensor) -> PerImage:
    """Log density of a mixture of diagonal Gaussians, (batch,), nats.

    Args:
        z: (batch, value).
        mean: (component, value).
        logvar: (component, value).
        logits: (component,), of the weights.
    """
    dtype = torch.float32 if z.device.type == "mps" else torch.float64
    wide = at_least_float32(z).dtype
    z, mean, logvar, logits = (each.to(dtype) for each in (z, mean, logvar, logits))
    with full_precision(z.device):
        # Σ (z − μ)² / σ² as matrix products, without a tensor (batch, component, value). Narrow components cancel
        # most digits of the products, hence float64.
        precision = torch.exp(-logvar)
        squares = z.square() @ precision.T - 2 * z @ (mean * precision).T + (mean.square() * precision).sum(1)
        each = -0.5 * (squares + (logvar + LOG_TWO_PI).sum(1))
        return torch.logsumexp(each + torch.log_softmax(logits, 0), 1).to(wide)


def draw_from_mixture(
    mean: Tensor, logvar: Tensor, logits: Tensor, count: int, noise: Generators | None, temperature: float
) -> Tensor:
    """Draws from a mixture of diagonal Gaussians, (count, value): the component by its weight, then a value.

    Raises:
        ShapeError: there is not one generator for each sample.
    """
    normal = normal_like(mean.new_empty(count, 1 + mean.shape[1]), noise)
    # The first normal value of each sample, as a uniform one, chooses the component: one stream serves both.
    ends = torch.softmax(logits.double(), 0).cumsum(0)
    chosen = torch.searchsorted(ends, torch.special.ndtr(normal[:, 0].double()) * ends[-1], right=True)
    chosen = chosen.clamp_max(len(mean) - 1)
    return mean[chosen] + temperature * torch.exp(0.5 * logvar[chosen]) * normal[:, 1:]
