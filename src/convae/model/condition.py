"""Class embedding of a conditional VAE."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from convae.core.arguments import Positive
from convae.core.errors import ConfigError
from convae.core.names import count_text

Labels = Int64[Tensor, " label"]
"""Class numbers, one for each image; `Condition.forward` checks their number."""


class Condition(nn.Module):
    """Class embedding, concatenated to the inputs of encoder and decoder (conditional VAE, Sohn et al. 2015).

    Each value of the embedding becomes one constant channel of the encoder's image and of the decoder's latent, so
    it fits networks of any size and number of spatial axes.

    Args:
        classes: number of classes; labels are 0 to classes − 1.
        channels: embedding dimension. Embeddings are initialized at random: with two or three dimensions some classes
            start nearly equal and may never separate.
    """

    def __init__(self, *, classes: Positive, channels: Positive = 8) -> None:
        super().__init__()
        self.classes = classes
        self.channels = channels
        self.weight = nn.Parameter(torch.empty(classes, channels))
        self.reset()

    def forward(self, x: Float[Tensor, "batch channel *sizes"], labels: Labels) -> Float[Tensor, "batch more *sizes"]:
        """Concatenates the embeddings of the labels to `x` as constant channels.

        Raises:
            ConfigError: the number of labels differs from that of the images, or a label is not a class number.
        """
        if labels.shape[0] != x.shape[0]:
            raise ConfigError(
                f"expected {count_text(len(x), 'label')}, one for each image or latent, got {len(labels)}"
            )
        try:
            vectors = F.embedding(labels, self.weight)
        except IndexError as error:
            raise ConfigError(f"labels are class numbers from 0 to {self.classes - 1}") from error
        maps = vectors.to(x.dtype).reshape(*vectors.shape, *(1,) * (x.ndim - 2)).expand(-1, -1, *x.shape[2:])
        return torch.cat([x, maps], dim=1)

    def reset(self, generator: torch.Generator | None = None) -> None:
        """Draws embeddings from a standard normal distribution."""
        with torch.no_grad():
            self.weight.copy_(torch.randn(self.weight.shape, generator=generator))
