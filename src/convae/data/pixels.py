"""Pixels as they are stored: the types of their values, and their way to Pillow's images."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convae.core.errors import DataError
from convae.core.names import shape_text

Kind = Literal["uint8", "uint16", "float32"]
"""The type of stored values. Integers stand for their share of the type's largest; floats lie in [0, 1] themselves."""

LEVELS: dict[Kind, int | None] = {"uint8": 256, "uint16": 65536, "float32": None}
"""How many values an image of a kind can have; None for floats."""

Pixels = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32]
"""(*sizes, channels): an image as it is stored, channels last."""

ResizeMode = Literal["crop", "pad", "squash"]
"""How an image of another aspect fills the size: its center, all of it with black bars, or all of it distorted."""

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Pillow's name for an image with so many channels."""
_NEEDED = "pixels need to be unsigned integers of 8 or 16 bits or floats in [0, 1]"


def as_kind(values: NDArray[Any], kind: str) -> Pixels:
    """Values as another type, by their range: the largest of an integer type is 1.0 of a float, which is in [0, 1].

    Raises:
        DataError: values of another type, or floats outside [0, 1].
    """
    if values.dtype == np.bool_:
        values = values.astype(np.uint8) * np.uint8(255)
    if values.dtype == kind and values.dtype in (np.uint8, np.uint16):
        return values
    if np.issubdtype(values.dtype, np.floating):
        if not np.all((values >= 0) & (values <= 1)):
            raise DataError(f"{_NEEDED}, got values from {values.min():g} to {values.max():g}")
        shares: NDArray[np.float32] = values.astype(np.float32, copy=False)
    elif values.dtype in (np.uint8, np.uint16):
        shares = np.divide(values, np.iinfo(values.dtype).max, dtype=np.float32)
    else:
        raise DataError(f"{_NEEDED}, got {values.dtype}")
    return shares if kind == "float32" else np.rint(shares * float(np.iinfo(kind).max)).astype(kind)


def picture(pixels: Pixels) -> Image.Image:
    """Pixels (height, width, channels) as a Pillow image.

    Raises:
        DataError: neither one, three nor four channels.
    """
    if pixels.ndim != 3 or pixels.shape[-1] not in MODES:
        raise DataError(f"pixels of shape {shape_text(pixels.shape)} are no picture of 1, 3 or 4 channels")
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
