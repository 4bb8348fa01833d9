"""Likelihood heads: map the decoder's raw values to the likelihood p(x | z).

A head may have parameters of its own, such as a learned sigma.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convae.core.arguments import PositiveFloat
from convae.core.errors import ShapeError
from convae.core.names import shape_text
from convae.core.output import Likelihood
from convae.core.precision import at_least_float32, with_gradient_of
from convae.core.types import AnyImages, Images
from convae.model.inputs import checked_images

Link = Literal["sigmoid", "tanh", "identity"]
"""Link from a raw value to the mean: `sigmoid`, `(tanh + 1) / 2`, or `identity`."""


class LikelihoodHead(nn.Module, ABC):
    """Maps raw decoder values to a `Likelihood`; configuration is keyword-only."""

    example: ClassVar[Mapping[str, Any]] = {}
    levels: int | None = None
    """Number of evenly spaced levels of which `log_prob` is a probability; None for a density."""

    def is_probability(self, levels: int | None) -> bool:
        """Whether `log_prob` of images of so many levels (None for floats) is a probability, which has bits."""
        return self.levels is not None and levels is not None

    def raw_channels(self, channels: int) -> int:
        """Number of decoder output channels for images of `channels` channels."""
        return channels

    @abstractmethod
    def forward(self, raw: Tensor) -> Likelihood:
        """(batch, raw channels, *sizes), any real values, to p(x | z)."""

    def raw_for(self, mean: Tensor) -> Tensor | None:
        """Raw values, (raw channels,), at which the mean of each channel is `mean`, (channels,) in (0, 1).

        The output of a new decoder starts there; None if unknown.
        """
        return None

    def reset(self, generator: torch.Generator | None = None) -> None:
        """Initializes the head's parameters."""


def require_images_like(x: Any, values: Tensor) -> Tensor:
    """Validates images of the likelihood's shape and converts them to its dtype; other shapes would be broadcast.

    Raises:
        ShapeError: `x` has another shape, or is not a tensor of floats in [0, 1] on the same device.
    """
    images = checked_images(x, values.dtype, values.device)
    if images.shape != values.shape:
        raise ShapeError(f"likelihood: expected images {shape_text(values.shape)}, got {shape_text(images.shape)}")
    return images


HIGHEST_LOG_SCALE = 5.0
"""Upper bound of a learned log-scale: 148 times the image range, nearly a uniform distribution."""


@dataclass(frozen=True)
class LocationScaleLikelihood(Likelihood):
    """Independent location-scale distribution of each pixel value.

    Attributes:
        location: (batch, channel, *sizes), in image units, not clamped.
        log_scale: logarithm of the scale, in image units (1 is white); broadcasts over `location`.
    """

    location: Images
    log_scale: Tensor

    @property
    def mean(self) -> Images:
        """The location, clamped to [0, 1]."""
        return clamp_straight_through(self.location)

    def deviations(self, x: AnyImages) -> Images:
        """X − location, of images of the shape of `location`."""
        return require_images_like(x, self.location) - self.location


class LocationScaleHead(LikelihoodHead):
    """Head of a location-scale distribution.

    Args:
        scale: the fixed scale in image units (1 is white), `learned` for one of the whole model, or `pixel` for one of
            each value from the decoder, which then gives twice the image's channels.
        link: link from a raw value to the location.
    """

    lowest_log_scale: ClassVar[float]
    """Lower bound of a learned log-scale."""
    first_log_scale: ClassVar[float]
    """Initial learned log-scale."""

    def __init__(self, *, scale: PositiveFloat | Literal["learned", "pixel"] = 0.1, link: Link = "sigmoid") -> None:
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
        """Twice the channels with a scale per pixel."""
        return 2 * channels if self.scale == "pixel" else channels

    def raw_for(self, mean: Tensor) -> Tensor:
        """The inverse link of the mean, and zero for a scale per pixel."""
        raw = mean.logit() if self.link == "sigmoid" else (2 * mean - 1).atanh() if self.link == "tanh" else mean
        return torch.cat([raw, torch.zeros_like(raw)]) if self.scale == "pixel" else raw

    def located(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Location and log-scale, which broadcasts over it, of raw values."""
        raw = at_least_float32(raw)
        if self.scale == "pixel":
            raw, bent = raw.chunk(2, dim=1)
            log_scale = self._bound_log_scale(bent + self.first_log_scale)
        elif self.scale == "learned":
            log_scale = self._bound_log_scale(self.log_scale.to(raw.dtype))
        else:
            log_scale = raw.new_full((), float(self.scale)).log()
        return apply_link(raw, self.link), log_scale

    def _bound_log_scale(self, log_scale: Tensor) -> Tensor:
        """Softly bounds a learned log-scale, with a straight-through gradient so that it can return."""
        bent = -soft_lower_bound(-soft_lower_bound(log_scale, self.lowest_log_scale), -HIGHEST_LOG_SCALE)
        return with_gradient_of(bent, log_scale)

    def reset(self, generator: torch.Generator | None = None) -> None:
        """Initializes a learned scale."""
        if self.scale == "learned":
            nn.init.constant_(self.log_scale, self.first_log_scale)


def clamp_straight_through(location: Tensor) -> Tensor:
    """Clamps a location to [0, 1] with a straight-through gradient, so that values outside can return."""
    return with_gradient_of(location.clamp(0, 1), location)


def apply_link(raw: Tensor, link: Link) -> Tensor:
    """Applies the link to raw values: the mean, not clamped to [0, 1]."""
    if link == "sigmoid":
        return raw.sigmoid()
    return (raw.tanh() + 1) / 2 if link == "tanh" else raw


def uniform_like(tensor: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draws uniform values in [0, 1), of the tensor's shape and device, on the generator's device."""
    device = tensor.device if generator is None else generator.device
    return torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype, device=device).to(tensor.device)


def soft_lower_bound(value: Tensor, lowest: float) -> Tensor:
    """Softplus lower bound: lowest + softplus(value − lowest) (Rybkin et al. 2021, appendix)."""
    return lowest + F.softplus(value - lowest)
