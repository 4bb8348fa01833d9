"""Images one after the other, in a file that browsers play: WebP, lossless."""

from __future__ import annotations

import io
from pathlib import Path

from numpy.typing import ArrayLike
from PIL import Image

from convae.core.errors import DataError, OutputError
from convae.core.files import write_bytes
from convae.pictures.images import to_uint8

__all__ = ["animate"]

SIDE = 256
"""Pixels that small images are enlarged to fill, as nearly as a whole factor can."""
LAST = 1000 * 60
"""Milliseconds; a frame that stays longer is a mistake."""


def animate(images: ArrayLike, path: Path, *, milliseconds: int = 120, there_and_back: bool = True) -> Path:
    """Writes images as an animated WebP that plays for ever.

    Args:
        images: (batch, channel, *sizes), floats in [0, 1] or bytes; volumes and signals as in every picture.
        path: ends in `.webp`.
        milliseconds: how long each image stays.
        there_and_back: whether the images are played backwards too, so that there is no jump.

    Returns:
        `path`, for printing.

    Raises:
        ShapeError: not a batch of signals, images or volumes.
        DataError: no images, values out of range, or no time to see them.
        OutputError: another suffix, or the file cannot be written.
    """
    if path.suffix.lower() != ".webp":
        raise OutputError(f"{path}: an animation is saved as .webp, not '{path.suffix}'")
    if not 0 < milliseconds < LAST:
        raise DataError(f"an image stays from 1 to {LAST - 1} milliseconds, got {milliseconds}")
    pixels = to_uint8(images)
    scale = max(1, SIDE // max(pixels.shape[1:3]))
    frames = [Image.fromarray(frame) for frame in pixels.repeat(scale, axis=1).repeat(scale, axis=2)]
    if there_and_back:
        frames += frames[-2:0:-1]
    stream = io.BytesIO()
    first, *others = frames
    first.save(stream, "WEBP", save_all=True, append_images=others, duration=milliseconds, loop=0, lossless=True)
    write_bytes(path, stream.getvalue())
    return path
