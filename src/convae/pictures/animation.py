"""Animations: lossless animated WebP."""

from __future__ import annotations

import io
from pathlib import Path

from numpy.typing import ArrayLike
from PIL import Image

from convae.core.errors import DataError, OutputError
from convae.core.files import write_bytes
from convae.core.paths import local_path
from convae.pictures.images import to_uint8

__all__ = ["animate"]

SIDE = 256
"""Approximate size of a frame in pixels: smaller images are enlarged by an integer factor."""
LAST = 1000 * 60
"""Upper limit of the duration of a frame, in milliseconds."""


def animate(images: ArrayLike, path: str | Path, *, milliseconds: int = 120, there_and_back: bool = True) -> Path:
    """Writes images as an animated WebP that loops.

    Args:
        images: (batch, channel, *sizes), floats in [0, 1] or uint8; volumes and signals are drawn as by `to_uint8`.
        path: path of the file, with the suffix `.webp`.
        milliseconds: duration of each frame.
        there_and_back: whether to append the images in reverse order, so that the loop is continuous.

    Returns:
        The path, for printing.

    Raises:
        ShapeError: not a batch of signals, images or volumes.
        DataError: no images, values out of range, or an invalid duration.
        OutputError: another suffix, or the file cannot be written.
    """
    path = local_path(path)
    if path.suffix.lower() != ".webp":
        raise OutputError(f"{path}: animations are saved as .webp, got '{path.suffix}'")
    if not 0 < milliseconds < LAST:
        raise DataError(f"milliseconds must be 1 to {LAST - 1}, got {milliseconds}")
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
