"""What a likelihood is: the decoder's belief of each image, with a mean, samples and a density.

A decoder gives raw values. A `LikelihoodHead`, the last module of the model, holds the parameters that the belief
needs beside them (such as a learned sigma) and turns raw values into a `Likelihood`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convae.core.errors import ShapeError
from convae.core.names import shape_text
from convae.core.types import Images, PerImage

Link = Literal["sigmoid", "tanh", "identity"]
"""How a raw value becomes a mean: `sigmoid` and `tanh` reach (0, 1) and (-1, 1) → (0, 1); `identity` leaves it."""


class Likelihood(ABC):
    """p(x | z) for each image of a batch; images are (batch, channel, *sizes) in [0, 1]."""

    @property
    @abstractmethod
    def mean(self) -> Images:
        """The expected image, in [0, 1]."""

    @abstractmethod
    def sample(self, generator: torch.Generator | None = None) -> Images:
        """An image drawn for each latent, in [0, 1]."""

    @abstractmethod
    def log_prob(self, x: Images) -> PerImage:
        """The log-likelihood of each image, nats, summed over its values.

        Raises:
            ShapeError: there is not one image, of the right shape, for each latent.
        """


class LikelihoodHead(nn.Module, ABC):
    """Raw decoder values to a `Likelihood`; configuration is keyword-only.

    `discrete` says that `log_prob` is a probability mass over levels, so that bits per dimension mean something.
    """

    example: ClassVar[Mapping[str, Any]] = {}
    discrete: ClassVar[bool] = False

    def raw_channels(self, channels: int) -> int:
        """The channels that the decoder has to give for images of `channels` channels."""
        return channels

    @abstractmethod
    def forward(self, raw: Tensor) -> Likelihood:
        """(batch, raw channels, *sizes), any real values, to the belief."""

    def reset(self, generator: torch.Generator) -> None:
        """Gives the head's own parameters their initial values."""


def alike(x: Tensor, values: Tensor) -> Tensor:
    """`x`, if it has the shape of the likelihood's values; anything else would be broadcast without a word.

    Raises:
        ShapeError: it has another shape.
    """
    if x.shape != values.shape:
        raise ShapeError(f"a likelihood of images {shape_text(values.shape)} got images {shape_text(x.shape)}")
    return x


def wide(raw: Tensor) -> Tensor:
    """`raw` in float32 or wider: likelihoods are sums over many values."""
    return raw.float() if raw.dtype in (torch.bfloat16, torch.float16) else raw


def linked(raw: Tensor, link: Link) -> Tensor:
    """The mean, not yet cut to [0, 1], that `link` makes of raw values."""
    if link == "sigmoid":
        return raw.sigmoid()
    return (raw.tanh() + 1) / 2 if link == "tanh" else raw


def uniform_like(tensor: Tensor, generator: torch.Generator | None) -> Tensor:
    """Values in [0, 1) of the tensor's shape, on its device, drawn on the generator's own device."""
    device = tensor.device if generator is None else generator.device
    return torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype, device=device).to(tensor.device)


def above(value: Tensor, lowest: float) -> Tensor:
    """`value` bent so that it stays above `lowest` and always keeps a gradient (Rybkin et al. 2021, appendix)."""
    return lowest + F.softplus(value - lowest)
