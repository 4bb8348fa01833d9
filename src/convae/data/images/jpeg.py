"""Fast JPEG decoding by simplejpeg, if the extra `jpeg` is installed.

Pillow and simplejpeg use the same library, libjpeg-turbo, with the same settings, so that the pixels are equal bit for
bit in less than half of the time. Files with any irregularity are left to Pillow, so that damaged images are treated
equally with and without the extra.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

try:
    import simplejpeg
except ImportError:
    simplejpeg = None

_LARGEST = 1 << 28
"""Size limit of a file that is read into memory, in bytes."""
_SUFFIXES = frozenset({".jpg", ".jpeg"})
_COLORS = {"Gray": "GRAY", "YCbCr": "RGB", "RGB": "RGB"}


def content(path: Path) -> bytes | None:
    """The content of a file with a JPEG suffix; None if it is left to Pillow or unreadable."""
    if simplejpeg is None or path.suffix.lower() not in _SUFFIXES:
        return None
    try:
        # Otherwise opening a pipe would block.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123  # there is no path to a descriptor
            found = os.fstat(descriptor)
            return file.read() if stat.S_ISREG(found.st_mode) and found.st_size <= _LARGEST else None
    except OSError:
        return None


def mentions(content: bytes, *words: bytes) -> bool:
    """Whether one of the words occurs before the first scan of a JPEG."""
    end = 2
    while content[end : end + 1] == b"\xff" and content[end + 1 : end + 2] != b"\xda":
        end += 2 + int.from_bytes(content[end + 2 : end + 4], "big")
    if content[end : end + 1] != b"\xff":
        end = len(content)  # not a plain sequence of segments
    return any(content.find(word, 0, end) >= 0 for word in words)


def decode(content: bytes, longest: int | None, megapixels: float) -> tuple[NDArray[np.uint8], tuple[int, int]] | None:
    """Decodes a JPEG without its orientation; returns pixels, and height and width. None if it is left to Pillow.

    Args:
        content: bytes of the file.
        longest: decodes at a half, quarter or eighth of the size, if each axis keeps at least this many pixels.
        megapixels: size limit in millions of pixels.

    Returns:
        (height, width, channels) with one or three channels.
    """
    if simplejpeg is None or not content.startswith(b"\xff\xd8\xff"):
        return None
    try:
        height, width, colors, _ = simplejpeg.decode_jpeg_header(content)
        if colors not in _COLORS or height * width > megapixels * 1e6:
            return None
        factor = 1 if longest is None else min(height // longest, width // longest)
        factor = next((known for known in (8, 4, 2) if factor >= known), 1)
        sides = -(-height // factor), -(-width // factor)
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            content, colorspace=_COLORS[colors], min_height=sides[0], min_width=sides[1]
        )
    except (ValueError, KeyError):  # unsupported color spaces
        return None
    return (pixels, (height, width)) if pixels.shape[:2] == sides else None
