"""Identity of an image: a digest of its original content, independent of resizing."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

BYTES = 16
"""Length of a digest."""


def content_digest(content: Path | bytes | NDArray[Any] | Image.Image) -> bytes:
    """BLAKE2b digest of a file, of bytes, or of the type, shape and values of an array.

    Raises:
        OSError: the file cannot be read.
    """
    if isinstance(content, Path):
        with content.open("rb") as file:
            return hashlib.file_digest(file, _hasher).digest()
    digest = _hasher()
    if isinstance(content, bytes):
        digest.update(content)
        return digest.digest()
    values = np.ascontiguousarray(content)
    digest.update(f"{values.dtype.str} {values.shape} ".encode())
    digest.update(values.data)
    return digest.digest()


def _hasher() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=BYTES)
