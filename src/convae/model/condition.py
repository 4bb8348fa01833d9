"""The label of an image as a part of the model's input: what makes a VAE a conditional one."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from convae.core.arguments import Positive
from convae.core.errors import ConfigError

Labels = Int64[Tensor, " label"]
"""Class numbers, one for each image; how many there are is checked where they meet the images."""


class Condition(nn.Module):
    """A learned vector for each class, which enters encoder and decoder beside image and latent (Sohn et al. 2015).

    Each value of the vector is one more channel, the same everywhere, of the image that the encoder gets and of the
    latent that the decoder gets. So a label enters networks of any size and number of axes, and what it says need
    not be said by the latent.

    Args:
        classes: how many there are; labels are the numbers from 0 on.
        channels: values of the vector of a class. The vectors begin as random ones: with two or three values some
            classes begin nearly alike, and what sets them apart may never be learned.
    """

    def __init__(self, *, classes: Positive, channels: Positive = 8) -> None:
        super().__init__()
        self.classes = classes
        self.channels = channels
        self.weight = nn.Parameter(torch.empty(classes, channels))
        self.reset()

    def forward(self, x: Float[Tensor, "batch channel *sizes"], labels: Labels) -> Float[Tensor, "batch more *sizes"]:
        """`x` with the vectors of the labels as further channels.

        Raises:
            ConfigError: not one label for each image, or one that is no class.
        """
        if len(labels) != len(x):
            raise ConfigError(f"{len(x)} images or latents need as many labels, got {len(labels)}")
        try:
            vectors = F.embedding(labels, self.weight)
        except IndexError as error:
            raise ConfigError(f"labels are class numbers from 0 to {self.classes - 1}") from error
        maps = vectors.to(x.dtype).reshape(*vectors.shape, *(1,) * (x.ndim - 2)).expand(-1, -1, *x.shape[2:])
        return torch.cat([x, maps], dim=1)

    def reset(self, generator: torch.Generator | None = None) -> None:
        """Standard normal values, as large as those of a latent."""
        with torch.no_grad():
            self.weight.copy_(torch.randn(self.weight.shape, generator=generator))
