"""A discriminator of images with its running means."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from convae.core.collective import shared_sum
from convae.core.precision import at_least_float32
from convae.core.types import Images
from convae.objective.discriminators.base import Discriminator

NORM_DECAY, SHOWN_DECAY = 0.9, 0.99
"""Decay of the running means of gradient norms, and of logits and accuracy."""


class ImageCritic(nn.Module):
    """A discriminator of images with running means over steps, which are in checkpoints.

    Attributes:
        discriminator: the network.
        squares: mean squared norms of gradients by the decoder's raw values: of all other terms with their weights, and
            of the adversarial loss without its weight; 0 before they are known.
        logits: mean logit of images and of reconstructions.
        accuracy: mean fraction of logits with the right sign.
        steps: number of steps of the discriminator.
    """

    squares: Tensor
    logits: Tensor
    accuracy: Tensor
    steps: Tensor

    def __init__(self, discriminator: Discriminator) -> None:
        super().__init__()
        self.discriminator = discriminator
        self.register_buffer("squares", torch.zeros(2))
        self.register_buffer("logits", torch.zeros(2))
        self.register_buffer("accuracy", torch.full((), 0.5))
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, images: Images) -> tuple[Tensor, ...]:
        """Logits of each scale, (batch, location), in float32 or wider."""
        weight = next(self.parameters())
        found = self.discriminator(images.to(weight.device, weight.dtype))
        return tuple(at_least_float32(logits) for logits in found)

    @torch.no_grad()
    def add_squares(self, sums: Tensor) -> None:
        """Updates `squares` with the sums of a batch, unless they are not finite."""
        sums = shared_sum(sums.to(self.squares))
        means = torch.where(self.squares > 0, torch.lerp(sums, self.squares, NORM_DECAY), sums)
        self.squares.copy_(torch.where(means.isfinite(), means, self.squares))

    @torch.no_grad()
    def add_step(self, sums: Tensor) -> None:
        """Updates the other means with sums of a batch: number of images, accuracy, logits of both."""
        sums = shared_sum(sums.to(self.logits))
        accuracy, *logits = (sums[1:] / sums[0]).unbind()
        decay = torch.clamp(self.steps / (self.steps + 1), max=SHOWN_DECAY)
        self.accuracy.copy_(torch.lerp(accuracy, self.accuracy, decay))
        self.logits.copy_(torch.lerp(torch.stack(logits), self.logits, decay))
        self.steps += 1
        self.discriminator.after_step()
