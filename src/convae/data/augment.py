"""Random changes of training images, in batches on the device.

    flip, crop ── pixels change place, exactly ──> one affine map (zoom, shear, rotation, shift) ──> colors

What happens to an image is a function of the seed, the epoch and the image's place in the split alone: neither the
batch it is in, nor the device, nor what was drawn before plays a part.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated

import torch
from jaxtyping import Float, Int64
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from convae.core.arguments import Fraction, NonNegative, NonNegativeFloat
from convae.core.config import Config
from convae.core.errors import ConfigError
from convae.core.names import shape_text
from convae.core.random import stream_key
from convae.core.types import Images

Amount = Annotated[float, Field(ge=0, lt=1)]
"""How far something may go at most, as a share."""

_GRAY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the brightness that people see (ITU-R BT.601)."""
_WORD = (1 << 32) - 1


class AugmentConfig(Config):
    """Random changes of training images; all are off by default. Amounts are drawn evenly from −amount to +amount."""

    flip: Fraction = 0.0
    """Probability that left and right change places."""
    crop: NonNegative = 0
    """Pixels by which the image is moved at most along each axis, in whole pixels; the border is continued."""
    shift: Amount = 0.0
    """Share of the size by which the image is moved at most along each axis."""
    zoom: Amount = 0.0
    """By how much of its size the image grows or shrinks at most: 0.1 is from 0.9 to 1.1 times."""
    shear: NonNegativeFloat = 0.0
    """Tangent of the largest angle by which columns are slanted."""
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Largest rotation, degrees."""
    brightness: Amount = 0.0
    """By how much all values are multiplied at most: 0.2 is from 0.8 to 1.2 times."""
    contrast: Amount = 0.0
    """As brightness, for the distance of values from the image's mean."""
    saturation: Amount = 0.0
    """As brightness, for the distance of values from the pixel's gray; nothing on gray images."""
    hue: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Largest turn of the colors around gray, degrees; nothing on gray images."""


class Augmentation:
    """The random changes that a configuration describes.

    Args:
        config: which, and how far.
        seed: of what is drawn.
    """

    def __init__(self, config: AugmentConfig, seed: int) -> None:
        self.config = config
        self._seed = seed

    def __call__(self, images: Images, indices: Int64[Tensor, " batch"], epoch: int, strength: float = 1.0) -> Images:
        """Images changed at random, in [0, 1], in the same layout.

        Args:
            images: (batch, channel, height, width) in [0, 1].
            indices: (batch,) their places in the split.
            epoch: of the training.
            strength: factor on all amounts, and on the probability of a flip.

        Raises:
            ConfigError: the images have not two spatial axes, and something else than `flip` is asked for.
        """
        config = self.config
        if config == AugmentConfig():
            return images
        if images.ndim != 4 and config.model_copy(update={"flip": 0.0}) != AugmentConfig():
            shape = shape_text(images.shape[1:])
            raise ConfigError(f"data.augment: images of {shape} have not two spatial axes, so only `flip` is possible")
        flat = images.ndim != 4 or not images.is_contiguous(memory_format=torch.channels_last)
        layout = torch.contiguous_format if flat else torch.channels_last
        stream = stream_key(self._seed, "augment", epoch)

        def draw(number: int) -> Float[Tensor, " batch"]:
            return uniform(stream, indices, number)

        def spread(number: int, amount: float) -> Float[Tensor, " batch"]:
            return (2 * draw(number) - 1) * (amount * strength)

        if config.flip:
            mirrored = (draw(0) < config.flip * strength).view(-1, *[1] * (images.ndim - 1))
            images = torch.where(mirrored, images.flip(-1), images)
        if config.crop:
            images = _moved(images, [torch.round(spread(axis, config.crop + 0.4999)).long() for axis in (1, 2)])
        if config.shift or config.zoom or config.shear or config.rotation:
            images = _mapped(images, self._maps(spread, images.shape[-1] / images.shape[-2]))
        if config.brightness or config.contrast or config.saturation or config.hue:
            images = self._colored(images, spread)
        return images.contiguous(memory_format=layout)

    def _maps(
        self, spread: Callable[[int, float], Float[Tensor, " batch"]], aspect: float
    ) -> Float[Tensor, "batch 2 3"]:
        """(batch, 2, 3): where each point of the result comes from, in coordinates from −1 to 1.

        Angles are those of square pixels, whatever the image's aspect.
        """
        config = self.config
        angle, slant = spread(3, math.radians(config.rotation)), spread(4, config.shear)
        scale = 1 / (1 + spread(5, config.zoom))
        cos, sin = angle.cos() * scale, angle.sin() * scale
        first = torch.stack([cos, (sin + slant * scale) / aspect, 2 * spread(6, config.shift)], dim=1)
        second = torch.stack([-sin * aspect, cos, 2 * spread(7, config.shift)], dim=1)
        return torch.stack([first, second], dim=1)

    def _colored(self, images: Images, spread: Callable[[int, float], Float[Tensor, " batch"]]) -> Images:
        """The images with other brightness, contrast and colors, cut off at 0 and 1; transparency stays."""
        config = self.config

        def factor(number: int, amount: float) -> Float[Tensor, "batch 1 1 1"]:
            return (1 + spread(number, amount)).view(-1, 1, 1, 1)

        colors, rest = (images[:, :3], images[:, 3:]) if images.shape[1] == 4 else (images, images[:, :0])
        colors = colors * factor(8, config.brightness)
        mean = colors.mean((1, 2, 3), keepdim=True)
        colors = torch.lerp(mean, colors, factor(9, config.contrast))
        if colors.shape[1] == 3:
            turned = _hue_matrices(spread(10, math.radians(config.hue)), factor(11, config.saturation).view(-1))
            colors = torch.einsum("bij,bjhw->bihw", turned, colors)
        return torch.cat([colors.clamp(0, 1), rest], dim=1)


def uniform(stream: int, indices: Int64[Tensor, " batch"], number: int) -> Float[Tensor, " batch"]:
    """Even random numbers in [0, 1), 24 bits each: functions of the stream, the index and the number alone.

    A hash of the counter, the finalizer of MurmurHash3 with each half of the stream's key in turn; in whole numbers,
    so the same on all devices.
    """
    bits = (indices + number * 0x9E3779B9) & _WORD
    high = indices >> 32
    for word in (stream & _WORD, (stream >> 32) & _WORD):
        bits = _mixed(bits ^ word ^ high)
    return (bits >> 8).to(torch.float32) * 2.0**-24


def _mixed(bits: Int64[Tensor, " batch"]) -> Int64[Tensor, " batch"]:
    """A permutation of the 32-bit words in which every bit depends on every other."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        bits = bits ^ (bits >> shift)
        # In two halves, so that no product leaves the 63 bits of a whole number.
        low = bits * (factor & 0xFFFF)
        high = (bits * (factor >> 16)) & 0xFFFF
        bits = (low + (high << 16)) & _WORD
    return bits ^ (bits >> 16)


def _moved(images: Images, moves: list[Int64[Tensor, " batch"]]) -> Images:
    """Each image moved down and right by whole pixels, exactly; its border is continued."""
    batch, _, height, width = images.shape
    rows, columns = (
        (torch.arange(size, device=images.device) - move[:, None]).clamp(0, size - 1)
        for size, move in zip((height, width), moves, strict=True)
    )
    positions = torch.arange(batch, device=images.device)[:, None, None]
    # Advanced indices around the channels put these last: as they lie in memory.
    return images.movedim(1, -1)[positions, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)


def _mapped(images: Images, maps: Float[Tensor, "batch 2 3"]) -> Images:
    """Each image under an affine map, bilinear; what comes from outside mirrors the inside."""
    grid = F.affine_grid(maps.to(images.dtype), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False).clamp(0, 1)


def _hue_matrices(angle: Float[Tensor, " batch"], saturation: Float[Tensor, " batch"]) -> Float[Tensor, "batch 3 3"]:
    """Matrices that turn colors around the gray axis and stretch them away from gray, keeping their brightness."""
    gray = torch.tensor(_GRAY, device=angle.device).expand(3, 3)
    axis = torch.full((3, 3), 1 / 3, device=angle.device)
    cross = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]], device=angle.device) / math.sqrt(3)
    identity = torch.eye(3, device=angle.device)
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    turned = cos * identity + (1 - cos) * axis + sin * cross
    # A turn around (1, 1, 1) changes what people see as brightness; the gray part is put back.
    colored = (identity - gray) @ turned @ (identity - gray)
    return gray + saturation[:, None, None] * colored
