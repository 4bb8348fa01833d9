"""Saving pictures: atomic, with equal bytes for equal pictures."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from convae.core.errors import OutputError
from convae.core.files import write_bytes
from convae.core.paths import local_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["encoded", "save"]

IMAGES = (".png", ".webp")
"""Lossless file formats of sheets."""


def save(picture: Image.Image | Figure, path: str | Path) -> Path:
    """Saves a sheet as PNG or lossless WebP, or a figure as PNG or SVG, by the suffix.

    Returns:
        The path, for printing.

    Raises:
        OutputError: another suffix, or the file cannot be written.
    """
    path = local_path(path)
    suffix = path.suffix.lower()
    known = IMAGES if isinstance(picture, Image.Image) else (".png", ".svg")
    if suffix not in known:
        raise OutputError(f"{path}: expected the suffix {' or '.join(known)}, got '{suffix}'")
    write_bytes(path, encoded(picture, suffix))
    return path


def encoded(picture: Image.Image | Figure, suffix: str) -> bytes:
    """The file content of a picture, without the date."""
    stream = io.BytesIO()
    if isinstance(picture, Image.Image):
        picture.save(stream, suffix[1:], lossless=True)
    else:
        from convae.pictures.figure import styled

        with styled():
            picture.savefig(
                stream, format=suffix[1:], metadata={"Date": None} if suffix == ".svg" else {"Software": None}
            )
    return stream.getvalue()
