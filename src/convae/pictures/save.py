"""Pictures as files: atomically, and equal bytes for equal pictures."""

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
"""What a sheet is saved as, without loss."""


def save(picture: Image.Image | Figure, path: str | Path) -> Path:
    """Writes a sheet as PNG or (lossless) WebP, a figure as PNG or SVG; the suffix decides.

    Returns:
        The path, for printing.

    Raises:
        OutputError: another suffix, or the file cannot be written.
    """
    path = local_path(path)
    suffix = path.suffix.lower()
    known = IMAGES if isinstance(picture, Image.Image) else (".png", ".svg")
    if suffix not in known:
        raise OutputError(f"{path}: this picture is saved as {' or '.join(known)}, not '{suffix}'")
    write_bytes(path, encoded(picture, suffix))
    return path


def encoded(picture: Image.Image | Figure, suffix: str) -> bytes:
    """The content of the file that a picture would be saved as; it does not hold the time of writing."""
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
