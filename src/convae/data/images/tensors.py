"""Conversion between image tensors (floats in [0, 1], channels first) and files, Pillow images and NumPy arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from convae.data.images.conversion import preprocess
from convae.data.images.pixels import as_kind, picture
from convae.data.images.reading import load


def to_tensor(image: str | Path | Image.Image | NDArray[Any]) -> Float[Tensor, " channel *sizes"]:
    """Converts an image to a tensor for models: float in [0, 1], channels first.

    Args:
        image: a path, a Pillow image, or an array (height, width) or (*sizes, channels) of booleans, of unsigned
            integers of 8 or 16 bits (scaled by their range), or of floats in [0, 1].

    Raises:
        DataError: unreadable, or values of another type or range.
    """
    if isinstance(image, str | Path):
        image = load(image)
    if isinstance(image, Image.Image):
        image = preprocess(image, (image.height, image.width))
    if image.ndim == 2:
        image = image[..., None]
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(as_kind(image, "float32"), -1, 0)))


def to_numpy(image: Float[Tensor, " channel *sizes"]) -> NDArray[np.uint8]:
    """Converts an image tensor to pixels, (*sizes, channels), rounded to uint8; the exact inverse of `to_tensor`."""
    values = image.detach().float().clamp(0, 1).mul(255).round().to(torch.uint8)
    return np.ascontiguousarray(np.moveaxis(values.cpu().numpy(), 0, -1))


def to_pil(image: Float[Tensor, "channel height width"] | NDArray[np.uint8]) -> Image.Image:
    """Converts an image tensor, or pixels (height, width, channels), to a Pillow image.

    Raises:
        DataError: the number of channels is not 1, 3 or 4.
    """
    return picture(to_numpy(image) if isinstance(image, Tensor) else image)


def to_unit(
    pixels: Shaped[Tensor, "batch channel *sizes"], device: torch.device | str | None = None
) -> Float[Tensor, "batch channel *sizes"]:
    """Converts stored values to floats in [0, 1] on a device.

    Integers are divided by the largest value of their type, exactly; floats are unchanged.
    """
    device = pixels.device if device is None else torch.device(device)
    images = pixels.to(device, non_blocking=device.type != "cpu" and pixels.is_pinned())
    if images.dtype.is_floating_point:
        return images
    # Division by a tensor, because CUDA would multiply by the reciprocal of a scalar: value / 255 is exact everywhere.
    return images.float().div_(torch.full((), float(torch.iinfo(pixels.dtype).max), device=device))
