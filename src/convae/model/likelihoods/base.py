"""Likelihood heads: the last module of a model, from the decoder's raw values to the likelihood p(x | z).

A head holds the parameters that the likelihood needs besides the raw values, such as a learned sigma.
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
from convae.core.output import Likelihood
from convae.core.precision import at_least_float32, with_gradient_of
from convae.model.inputs import checked_images

Link = Literal["sigmoid", "tanh", "identity"]
"""How a raw value becomes a mean: `sigmoid` and `tanh` reach (0, 1) and (-1, 1) → (0, 1); `identity` leaves it."""


class LikelihoodHead(nn.Module, ABC):
    """Raw decoder values to a `Likelihood`; configuration is keyword-only.

    `discrete` says that `log_prob` is a probability mass over levels, so that bits per dimension mean something.
    """

    example: ClassVar[Mapping[str, Any]] = {}
    discrete: ClassVar[bool] = False
    levels: int | None = None
    """The number of evenly spaced levels that have a probability; None of a density."""

    def raw_channels(self, channels: int) -> int:
        """The channels that the decoder has to give for images of `channels` channels."""
        return channels

    @abstractmethod
    def forward(self, raw: Tensor) -> Likelihood:
        """(batch, raw channels, *sizes), any real values, to p(x | z)."""

    def reset(self, generator: torch.Generator | None = None) -> None:
        """Gives the head's own parameters their initial values."""


def require_images_like(x: Any, values: Tensor) -> Tensor:
    """`x` in the type of a likelihood's values, if it is images of their shape; anything else would be broadcast.

    Raises:
        ShapeError: it has another shape, or is not a tensor of floats in [0, 1] on the same device.
    """
    images = checked_images(x, values.dtype, values.device)
    if images.shape != values.shape:
        raise ShapeError(f"a likelihood of images {shape_text(values.shape)} got images {shape_text(images.shape)}")
    return images


HIGHEST_LOG_SCALE = 5.0
"""A learned scale stays below 148 times the range of an image, where every value is as likely as any other."""


class LocationScaleHead(LikelihoodHead):
    """A head whose likelihood is a location and a scale for each value.

    Args:
        scale: the fixed scale in image units (1 is white), `learned` for one of the whole model, or `pixel` for one of
            each value from the decoder, which then gives twice the image's channels.
        link: how a raw value becomes the location.
    """

    lowest_log_scale: ClassVar[float]
    """A learned scale stays above this."""
    first_log_scale: ClassVar[float]
    """Where a learned scale begins."""

    def __init__(self, scale: float | Literal["learned", "pixel"], link: Link) -> None:
        super().__init__()
        self.scale = scale
        self.link = link
        if scale == "learned":
            self.log_scale = nn.Parameter(torch.empty(()))
            self.reset()

    def extra_repr(self) -> str:
        """Scale and link, for `print(model)`."""
        levels = "" if self.levels is None else f", levels={self.levels}"
        return f"scale={self.scale}, link={self.link}{levels}"

    def raw_channels(self, channels: int) -> int:
        """Twice the channels when the decoder gives scales too."""
        return 2 * channels if self.scale == "pixel" else channels

    def located(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """The location, and the logarithm of the scale, which broadcasts over it."""
        raw = at_least_float32(raw)
        if self.scale == "pixel":
            raw, bent = raw.chunk(2, dim=1)
            log_scale = self._held(bent + self.first_log_scale)
        elif self.scale == "learned":
            log_scale = self._held(self.log_scale.to(raw.dtype))
        else:
            log_scale = raw.new_tensor(float(self.scale)).log()
        return apply_link(raw, self.link), log_scale

    def _held(self, log_scale: Tensor) -> Tensor:
        """A learned scale, bent between its bounds, with the gradient of one that is not, so that it can come back."""
        bent = -soft_lower_bound(-soft_lower_bound(log_scale, self.lowest_log_scale), -HIGHEST_LOG_SCALE)
        return with_gradient_of(bent, log_scale)

    def reset(self, generator: torch.Generator | None = None) -> None:
        """A learned scale begins where its class says."""
        if self.scale == "learned":
            nn.init.constant_(self.log_scale, self.first_log_scale)


def clamp_straight_through(location: Tensor) -> Tensor:
    """The location cut to [0, 1], with the gradient it would have uncut, so that what is beyond can come back."""
    return with_gradient_of(location.clamp(0, 1), location)


def apply_link(raw: Tensor, link: Link) -> Tensor:
    """The mean, not yet cut to [0, 1], that `link` makes of raw values."""
    if link == "sigmoid":
        return raw.sigmoid()
    return (raw.tanh() + 1) / 2 if link == "tanh" else raw


def uniform_like(tensor: Tensor, generator: torch.Generator | None) -> Tensor:
    """Values in [0, 1) of the tensor's shape, on its device, drawn on the generator's own device."""
    device = tensor.device if generator is None else generator.device
    return torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype, device=device).to(tensor.device)


def soft_lower_bound(value: Tensor, lowest: float) -> Tensor:
    """`value` bent so that it stays above `lowest` (Rybkin et al. 2021, appendix)."""
    return lowest + F.softplus(value - lowest)
