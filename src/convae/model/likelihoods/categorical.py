"""Categorical likelihood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from convae.core.output import Likelihood
from convae.core.precision import at_least_float32
from convae.core.types import AnyImages, Images
from convae.model.likelihoods.base import LikelihoodHead, require_images_like, uniform_like


@dataclass(frozen=True)
class CategoricalLikelihood(Likelihood):
    """Independent categorical distribution of each pixel value over the levels 0, 1/(n−1), …, 1.

    Attributes:
        log_probs: (batch, channel, *sizes, n), log-probabilities of the levels.
    """

    log_probs: Tensor

    @property
    def mean(self) -> Images:
        """The expected value."""
        levels = torch.linspace(
            0, 1, self.log_probs.shape[-1], dtype=self.log_probs.dtype, device=self.log_probs.device
        )
        mean: Images = (self.log_probs.exp() * levels).sum(-1).clamp(0, 1)
        return mean

    def sample(self, generator: torch.Generator | None = None) -> Images:
        """Draws a level for each value."""
        uniform = uniform_like(self.log_probs[..., 0], generator)
        last = self.log_probs.shape[-1] - 1
        below: Images = (self.log_probs.exp().cumsum(-1) <= uniform[..., None]).sum(-1).clamp_max(last).to(
            uniform
        ) / last
        return below

    def log_prob_values(self, x: AnyImages) -> Images:
        """Log-probability of the nearest level of each value, nats."""
        x = require_images_like(x, self.log_probs[..., 0])
        levels = (x * (self.log_probs.shape[-1] - 1)).round().long()
        return self.log_probs.gather(-1, levels[..., None])[..., 0]


class Categorical(LikelihoodHead):
    """Categorical likelihood: a probability for each level of each pixel value (van den Oord et al. 2016).

    arXiv:1601.06759. For images of few levels, or of classes: the decoder gives `levels` channels for each one of the
    image.

    Args:
        levels: number of levels of a pixel value.
    """

    levels: int
    example: ClassVar = {"levels": 4}

    def __init__(self, *, levels: Annotated[int, Field(ge=2, le=256)] = 256) -> None:
        super().__init__()
        self.levels = levels

    def extra_repr(self) -> str:
        """The levels, for `print(model)`."""
        return f"levels={self.levels}"

    def raw_channels(self, channels: int) -> int:
        """As many channels as levels for each channel of the image."""
        return channels * self.levels

    def forward(self, raw: Tensor) -> CategoricalLikelihood:
        """Raw values, (batch, channel × level, *sizes), as logits."""
        logits = at_least_float32(raw).unflatten(1, (-1, self.levels)).movedim(2, -1)
        return CategoricalLikelihood(logits.log_softmax(-1))
