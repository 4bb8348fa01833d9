"""One image at a time, brought to the size, the channels and the type wanted.

Everything that is stored or shown to a network passes through `preprocess`, so that an image comes out the same
whichever way it went in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional as F

from convae.core.errors import ConfigError, DataError
from convae.core.names import shape_text, unknown_message
from convae.data.headers import is_gray
from convae.data.image_reading import load
from convae.data.pixels import MODES, Kind, Pixels, ResizeMode, as_kind, picture
from convae.data.ranges import raw_values, spread

_SMALL = 1 << 18
"""Bytes of the largest images that are worth being resized together."""
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""The share of red, green and blue in gray (ITU-R BT.601), as Pillow has it."""


def preprocess(
    image: Image.Image | Pixels,
    size: int | Sequence[int],
    *,
    channels: int | None = None,
    resize_mode: ResizeMode = "crop",
    kind: Kind | None = None,
) -> Pixels:
    """Brings an image to a size, a number of channels and a type; one that has them already is returned as it is.

    Resizing is antialiased: bicubic, as Parmar, Zhang and Zhu (2022) recommend for images that are compared by their
    features. Transparency is kept in four channels and laid over white otherwise; the bars of `pad` are black, or
    transparent in four channels. Values change their type by their range: 65535 of 16 bits is 255 of 8 and 1.0.

    Args:
        image: a Pillow image of any mode, or an array (*sizes, channels).
        size: spatial sizes, height first; a number for a square.
        channels: 1 gray, 3 RGB, 4 RGBA; any other number, for arrays, only where it is what the array has. None
            keeps an array's channels; a Pillow image becomes gray where it is gray and RGB otherwise.
        resize_mode: `crop` fills the size with the image's center, `pad` adds black bars, `squash` distorts the image.
        kind: the type of the values; None keeps an array's, and gives bytes for a Pillow image.

    Returns:
        (*size, channels).

    Raises:
        DataError: the image cannot be brought to that size, number of channels or type.
        ConfigError: no such resize mode.
    """
    if resize_mode not in get_args(ResizeMode):
        raise ConfigError(unknown_message("resize_mode", resize_mode, get_args(ResizeMode)))
    size = _sides(size)
    values = raw_values(image)
    if isinstance(image, Image.Image) and isinstance(values, np.ndarray):
        image = spread(values, None, None, kind or "uint8")
    if isinstance(image, np.ndarray):
        channels = channels or image.shape[-1]
        if image.shape == (*size, channels):
            return as_kind(image, kind or image.dtype.name)
        if image.ndim != 3 or len(size) != 2:
            raise DataError(f"values of shape {shape_text(image.shape)} cannot be resized to {shape_text(size)}")
        if image.dtype != np.uint8:
            image = _deep_channels(image, channels)
        if channels == image.shape[-1]:
            return as_kind(_fitted(image[None], size, resize_mode)[0], kind or image.dtype.name)
        image = picture(image)
    if len(size) != 2:
        raise DataError(f"an image has a height and a width, and cannot be brought to {shape_text(size)}")
    channels = channels or (1 if is_gray(image) else 3)
    # Gray pixels are resized once, not once for each channel that they become.
    first = 1 if channels == 3 and is_gray(image) and not image.has_transparency_data else channels
    pixels = np.array(_with_channels(image, first)).reshape(image.height, image.width, first)
    fitted = _fitted(pixels[None], size, resize_mode)[0]
    return as_kind(np.repeat(fitted, channels // first, axis=-1), kind or "uint8")


def load_and_preprocess(
    path: str | Path, size: int | Sequence[int], *, channels: int | None = None, resize_mode: ResizeMode = "crop"
) -> Pixels:
    """`load`, then `preprocess`: (*size, channels).

    Raises:
        DataError: the file cannot be read as an image, or not brought to that size.
        ConfigError: no such resize mode.
    """
    sides = _sides(size)
    return preprocess(load(path, near=sides), sides, channels=channels, resize_mode=resize_mode)


def _sides(size: int | Sequence[int]) -> tuple[int, ...]:
    """A size as one number for each axis."""
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if not all(side > 0 for side in sides):
        raise DataError(
            f"no image can be brought to {shape_text(sides)}: a size has at least one pixel along each axis"
        )
    return sides


def alike(image: Image.Image | Pixels, channels: int) -> NDArray[np.uint8] | None:
    """The bytes of an image that `preprocess_alike` takes, of so many channels; None where `preprocess` has to."""
    if isinstance(image, Image.Image):
        if channels == 4 or image.mode != MODES.get(channels) or image.has_transparency_data:
            return None
        image = np.array(image).reshape(image.height, image.width, channels)
    fits = image.ndim == 3 and image.dtype == np.uint8 and image.shape[-1] == channels != 4
    return image if fits and image.nbytes <= _SMALL else None  # type: ignore[return-value]  # they are bytes


def preprocess_alike(
    images: Sequence[NDArray[np.uint8]], size: Sequence[int], resize_mode: ResizeMode
) -> NDArray[np.uint8]:
    """`preprocess` of images of one shape at once, which takes small ones half of the time.

    Returns:
        (image, *size, channels).
    """
    return _fitted(np.stack(images), size, resize_mode)  # type: ignore[return-value]  # bytes stay bytes


def with_channels(image: Image.Image | NDArray[Any], channels: int) -> NDArray[Any]:
    """The values of an image as they are in its file, of so many channels: (height, width, channels).

    Raises:
        DataError: it does not become so many.
    """
    values = raw_values(image)
    if isinstance(values, Image.Image):
        return np.array(_with_channels(values, channels)).reshape(values.height, values.width, channels)
    if values.shape[-1] != channels:
        raise DataError(f"an image of {values.shape[-1]} channels among images of {channels}")
    return values


def _with_channels(image: Image.Image, channels: int) -> Image.Image:
    """The image in the mode that has so many channels."""
    if channels not in MODES:
        raise DataError(f"an image becomes 1 (gray), 3 (RGB) or 4 (RGBA) channels, not {channels}")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if channels != 4:
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image).convert("RGB")
    if image.mode == "LAB":  # which Pillow converts to colors only
        image = image.convert("RGB")
    return image if image.mode == MODES[channels] else image.convert(MODES[channels])


def _deep_channels(values: Pixels, channels: int) -> Pixels:
    """Values of more than 8 bits (height, width, channels) with another number of channels, none of their bits lost."""
    if channels == values.shape[-1]:
        return values
    if channels not in MODES or values.shape[-1] not in MODES:
        raise DataError(
            f"an image becomes 1 (gray), 3 (RGB) or 4 (RGBA) channels, not {channels} of {values.shape[-1]}"
        )
    shares: NDArray[Any] = as_kind(values, "float32")
    if shares.shape[-1] == 1:
        shares = np.repeat(shares, 3, -1)
    if shares.shape[-1] == 4 and channels != 4:  # laid over white
        shares = shares[..., :3] * shares[..., 3:] + (1 - shares[..., 3:])
    if channels == 1:
        shares = shares @ _LUMA[:, None]
    if channels == 4 and shares.shape[-1] == 3:
        shares = np.concatenate([shares, np.ones_like(shares[..., :1])], -1)
    return as_kind(shares.clip(0, 1), values.dtype.name)


def _fitted(pixels: Pixels, size: Sequence[int], resize_mode: ResizeMode) -> Pixels:
    """Images of one shape at exactly the size (height, width)."""
    sides = pixels.shape[1:3]
    if sides == tuple(size):
        return pixels
    if resize_mode == "squash":
        return _resized(pixels, size)
    if resize_mode == "pad":
        inner, (top, left) = _padded(sides, tuple(size))
        bars = np.zeros((len(pixels), *size, pixels.shape[-1]), pixels.dtype)
        bars[:, top : top + inner[0], left : left + inner[1]] = _resized(pixels, inner)
        return bars
    (above, beside), (top, left), larger = _cropped(sides, tuple(size))
    inside = _resized(pixels[:, above : sides[0] - above, beside : sides[1] - beside], larger)
    return inside[:, top : top + size[0], left : left + size[1]]


@lru_cache(maxsize=1024)
def _padded(sides: tuple[int, ...], size: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """The sizes of all of an image inside `size`, and the widths of the bars before it."""
    scale = max(Fraction(side, wanted) for side, wanted in zip(sides, size, strict=True))
    inner = [max(1, math.floor(side / scale + Fraction(1, 2))) for side in sides]
    return inner, [(wanted - part) // 2 for wanted, part in zip(size, inner, strict=True)]


@lru_cache(maxsize=1024)
def _cropped(sides: tuple[int, ...], size: tuple[int, ...]) -> tuple[list[int], list[int], list[int]]:
    """How the center of an image fills `size`, with whole pixels and the same on both sides.

    Returns:
        How much of the image is cut off on each side of each axis; how much of the result, once it is resized; and
        the size that it is resized to.
    """
    scale = min(Fraction(side, wanted) for side, wanted in zip(sides, size, strict=True))
    before = [math.floor((side - scale * wanted) / 2) for side, wanted in zip(sides, size, strict=True)]
    kept = [side - 2 * margin for side, margin in zip(sides, before, strict=True)]
    after = [round((part / scale - wanted) / 2) for part, wanted in zip(kept, size, strict=True)]
    return before, after, [wanted + 2 * margin for wanted, margin in zip(size, after, strict=True)]


def _resized(pixels: Pixels, size: Sequence[int]) -> Pixels:
    """Images at a size (height, width), each channel by itself but for the colors of what is transparent."""
    if pixels.dtype != np.uint8:
        # A bicubic curve overshoots beside edges.
        return as_kind(_interpolated(as_kind(pixels, "float32"), size).clip(0, 1), pixels.dtype.name)
    if pixels.shape[-1] != 4 or (pixels[..., 3] == 255).all():
        return _interpolated(pixels, size)
    return np.stack([_transparent(image, size) for image in pixels])


def _transparent(image: NDArray[np.uint8], size: Sequence[int]) -> NDArray[np.uint8]:
    """An RGBA image at a size: what is transparent has no color that its neighbors could take on."""
    weighted = _interpolated(np.array(picture(image).convert("RGBa"))[None], size)
    return np.array(Image.frombytes("RGBa", (size[1], size[0]), weighted.tobytes()).convert("RGBA"))


def _interpolated(pixels: NDArray[Any], size: Sequence[int]) -> NDArray[Any]:
    """Pillow's antialiased bicubic resizing as torch has it: of bytes within one level, in a third of the time."""
    if not pixels.flags.writeable or min(pixels.strides) < 0:
        pixels = pixels.copy()  # torch has neither read-only tensors nor reversed axes
    resized = F.interpolate(torch.from_numpy(pixels).permute(0, 3, 1, 2), tuple(size), mode="bicubic", antialias=True)
    return np.ascontiguousarray(resized.permute(0, 2, 3, 1).numpy())
