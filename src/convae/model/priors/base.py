"""The prior p(z): a module of the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from convae.core.noise import Generators
from convae.core.types import Latents, PerImage
from convae.model.bottlenecks.base import Bottleneck


class Prior(nn.Module):
    """Prior p(z) over the latents of a model, or over the codes of its codebook.

    The constructor takes the model's bottleneck, for its shapes, and its configuration as keyword-only arguments; it
    initializes its parameters.

    Attributes:
        draws_codes: whether `sample` returns code indices, (count, *grid), instead of latents, (count, *latent).
    """

    example: ClassVar[Mapping[str, Any]] = {}
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

    def reset(self, generator: torch.Generator | None = None) -> None:
        """Initializes parameters and buffers, with a CPU generator."""
