"""A discriminator of the smallest contract, as of another package: it defines no features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from convae.core.types import Shape
from convae.objective import Discriminator


class Plain(Discriminator):
    """A linear map of all values to one logit."""

    def __init__(self, image_shape: Shape) -> None:
        super().__init__(image_shape)
        self.layer = nn.Linear(torch.Size(image_shape).numel(), 1)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return (self.layer(images.flatten(1)),)

    def reset(self, generator: torch.Generator | None = None) -> None:
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
