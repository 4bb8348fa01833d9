"""Data augmentation, on the device and in batches.

    flip, crop (exact) ──> one affine map (zoom, shear, rotation, shift) ──> colors

The augmentation of an image is a pure function of the seed, the epoch and the position of the image in the split. It
does not depend on the batch, the device, or earlier draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from convae.core.arguments import Fraction, NonNegative, NonNegativeFloat
from convae.core.config import Config
from convae.core.device import copy_to_device
from convae.core.errors import ConfigError
from convae.core.names import shape_text
from convae.core.random import stream_key
from convae.core.types import Images

Amount = Annotated[float, Field(ge=0, lt=1)]
"""Largest magnitude of a change, as a fraction."""

_GRAY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the luma (ITU-R BT.601)."""
_WORD = (1 << 32) - 1


class AugmentConfig(Config):
    """Data augmentation; off by default. Amounts are drawn uniformly from −amount to +amount."""

    flip: Fraction = 0.0
    """Probability of a horizontal flip."""
    crop: NonNegative = 0
    """Largest translation along each axis in pixels, by integers; the border is replicated."""
    shift: Amount = 0.0
    """Largest translation along each axis, as a fraction of the size."""
    zoom: Amount = 0.0
    """Largest change of scale: 0.1 is a factor from 0.9 to 1.1."""
    shear: NonNegativeFloat = 0.0
    """Largest shear of columns, as the tangent of the angle."""
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Largest rotation, degrees."""
    brightness: Amount = 0.0
    """Largest change of brightness: 0.2 is a factor from 0.8 to 1.2."""
    contrast: Amount = 0.0
    """Largest change of contrast, the distance of values from the mean of the image."""
    saturation: Amount = 0.0
    """Largest change of saturation, the distance of values from the pixel's gray; no effect on gray images."""
    hue: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Largest rotation of the hue, degrees; no effect on gray images."""


class Augmentation:
    """Augments batches of images.

    Args:
        config: kinds and amounts.
        seed: seed of the random amounts.
    """

    def __init__(self, config: AugmentConfig, seed: int) -> None:
        self.config = config
        self._seed = seed

    def __call__(self, images: Images, indices: Int64[Tensor, " batch"], epoch: int, strength: float = 1.0) -> Images:
        """Returns augmented images in [0, 1], in the same memory layout.

        Args:
            images: (batch, channel, height, width) in [0, 1].
            indices: (batch,) their positions in the split.
            epoch: epoch of the training.
            strength: factor on all amounts, and on the probability of a flip.

        Raises:
            ConfigError: the images do not have two spatial axes, and the configuration has more than `flip`.
        """
        config = self.config
        if config == AugmentConfig():
            return images
        if images.ndim != 4 and config.model_copy(update={"flip": 0.0}) != AugmentConfig():
            shape = shape_text(images.shape[1:])
            raise ConfigError(f"data.augment: images {shape} do not have two spatial axes. Use flip only")
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
        """(batch, 2, 3): affine maps from the result to the source, in coordinates from −1 to 1.

        Angles are correct for square pixels at any aspect ratio of the image.
        """
        config = self.config
        angle, slant = spread(3, math.radians(config.rotation)), spread(4, config.shear)
        scale = 1 / (1 + spread(5, config.zoom))
        cos, sin = angle.cos() * scale, angle.sin() * scale
        first = torch.stack([cos, (sin + slant * cos) / aspect, 2 * spread(6, config.shift)], dim=1)
        second = torch.stack([-sin * aspect, cos - slant * sin, 2 * spread(7, config.shift)], dim=1)
        return torch.stack([first, second], dim=1)

    def _colored(self, images: Images, spread: Callable[[int, float], Float[Tensor, " batch"]]) -> Images:
        """Changes brightness, contrast, saturation and hue, clamped to [0, 1]; alpha is unchanged."""
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
    """Uniform random numbers in [0, 1) with 24 bits; pure functions of the stream, the index and the number.

    A hash of the counter: the finalizer of MurmurHash3 with each half of the stream key in turn. It uses integers, so
    it is equal on all devices.
    """
    bits = (indices + number * 0x9E3779B9) & _WORD
    high = indices >> 32
    for word in (stream & _WORD, (stream >> 32) & _WORD):
        bits = _mixed(bits ^ word ^ high)
    return (bits >> 8).to(torch.float32) * 2.0**-24


def image_keys(identities: NDArray[np.uint8], device: torch.device) -> Int64[Tensor, " batch"]:
    """(batch,) integers of 62 bits for images with (batch, 16) digests: counters of their random numbers."""
    own = identities[:, :8].copy().view("<i8")[:, 0].astype(np.int64) >> 2
    return copy_to_device(torch.from_numpy(own), device)


def _mixed(bits: Int64[Tensor, " batch"]) -> Int64[Tensor, " batch"]:
    """A permutation of the 32-bit words in which every bit depends on every other."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        bits = bits ^ (bits >> shift)
        # In two halves, so that no product exceeds 63 bits.
        low = bits * (factor & 0xFFFF)
        high = (bits * (factor >> 16)) & 0xFFFF
        bits = (low + (high << 16)) & _WORD
    return bits ^ (bits >> 16)


def _moved(images: Images, moves: list[Int64[Tensor, " batch"]]) -> Images:
    """Translates each image down and right by integers; the border is replicated."""
    batch, _, height, width = images.shape
    rows, columns = (
        (torch.arange(size, device=images.device) - move[:, None]).clamp(0, size - 1)
        for size, move in zip((height, width), moves, strict=True)
    )
    positions = torch.arange(batch, device=images.device)[:, None, None]
    # Advanced indices around the channel axis put it last, as in memory.
    return images.movedim(1, -1)[positions, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)


def _mapped(images: Images, maps: Float[Tensor, "batch 2 3"]) -> Images:
    """Applies an affine map to each image with bilinear interpolation; the outside is a reflection of the inside."""
    grid = F.affine_grid(maps.to(images.dtype), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False).clamp(0, 1)


def _hue_matrices(angle: Float[Tensor, " batch"], saturation: Float[Tensor, " batch"]) -> Float[Tensor, "batch 3 3"]:
    """Matrices that rotate colors around the gray axis and scale their distance from gray, preserving luma."""
    gray = copy_to_device(torch.tensor(_GRAY), angle.device).expand(3, 3)
    axis = torch.full((3, 3), 1 / 3, device=angle.device)
    cross = copy_to_device(torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]), angle.device)
    cross = cross / math.sqrt(3)
    identity = torch.eye(3, device=angle.device)
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    turned = cos * identity + (1 - cos) * axis + sin * cross
    # A rotation around (1, 1, 1) changes the luma; it is restored.
    colored = (identity - gray) @ turned @ (identity - gray)
    return gray + saturation[:, None, None] * colored
