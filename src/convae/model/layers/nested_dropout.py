"""Nested dropout: channels in an order of importance."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from convae.core.arguments import Positive
from convae.core.context import Context
from convae.core.errors import ShapeError
from convae.core.noise import normal_like
from convae.core.types import Shape
from convae.model.layers.base import ContextLayer


class NestedDropout(ContextLayer):
    """Keeps the first channels of each image in training, a random number of them, and zeroes the rest.

    As the first layer of the decoder it orders the latent: the first channels learn the structure of an image, later
    ones its details, so that an image can be decoded from the first channels alone, with the others set to zero.

    Rippel, Gelbart & Adams 2014, arXiv:1402.0915; with a uniform number of channels, the structured latent space of
    DC-AE 1.5 (Chen et al. 2025).

    Args:
        shape: (channels, *sizes).
        least: fewest channels that are kept.
        step: numbers of channels are `least`, `least` + `step`, … and all of them, equally likely.
        rate: probability that an image has fewer channels; with 1, also then all of them may be drawn.
    """

    example: ClassVar = {"least": 2}
    keeps_shape = True
    only_in_training = True

    def __init__(
        self,
        shape: Shape,
        *,
        least: Positive = 1,
        step: Positive = 1,
        rate: Annotated[float, Field(gt=0, le=1)] = 1.0,
    ) -> None:
        super().__init__(shape)
        if least > shape[0]:
            raise ShapeError(f"expected least from 1 to the number of channels, {shape[0]}, got {least}")
        self.counts = (*range(least, shape[0], step), shape[0])
        self.rate = rate

    def forward(self, x: Tensor, context: Context | None = None) -> Tensor:
        """Any shape."""
        if not self.training:
            return x
        noise = None if context is None else context.unit_noise_for(self.stream)
        # Uniform values in (0, 1), from normal ones, of which a source for each image is at hand.
        drawn, is_fewer = torch.special.ndtr(normal_like(x.new_empty(len(x), 2, dtype=torch.float32), noise)).unbind(1)
        number = (drawn * len(self.counts)).long().clamp_max(len(self.counts) - 1)
        kept = torch.tensor(self.counts, device=x.device)[number]
        kept = torch.where(is_fewer < self.rate, kept, x.shape[1])
        is_kept = torch.arange(x.shape[1], device=x.device) < kept[:, None]
        return torch.where(is_kept.view(*x.shape[:2], *(1,) * (x.ndim - 2)), x, 0)
