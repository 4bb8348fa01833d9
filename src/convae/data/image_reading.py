"""Image files as they are opened and decoded: bounded, upright, and no larger than needed."""

from __future__ import annotations

import contextlib
import ctypes
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError, _imaging

from convae.core.errors import DataError
from convae.core.files import open_regular
from convae.core.paths import local_path
from convae.data import headers, jpeg, tiff
from convae.data.headers import Header, orientation, oriented_size, read_header
from convae.data.pixels import picture
from convae.data.world import is_of_the_world, patiently, world_error

MEGAPIXELS = 80.0
"""Larger images are refused: a small file may claim pixels that fill the memory."""
_MARGIN = 1.25
"""How many times the pixels wanted a reduced decoding keeps along each axis, at least."""


def _quiet_tiff() -> None:
    """Keeps libtiff, whose complaints Pillow raises as well, from printing them to stderr."""
    with contextlib.suppress(OSError, AttributeError):
        # Found through the library of Pillow that it is linked to.
        library = ctypes.CDLL(_imaging.__file__)
        library.TIFFSetErrorHandler(None)
        library.TIFFSetWarningHandler(None)


_quiet_tiff()


class Decoded(NamedTuple):
    """An image as its file has it.

    Attributes:
        pixels: a Pillow image, or (height, width, channels) samples of any type.
        header: of the file; its size is that before any reduced decoding.
    """

    pixels: Image.Image | NDArray[Any]
    header: Header


def load(path: str | Path, *, near: Sequence[int] | None = None, megapixels: float = MEGAPIXELS) -> Image.Image:
    """Reads an image file: its first frame, turned the way its EXIF orientation says.

    Args:
        path: any file that Pillow can read.
        near: the spatial sizes wanted later. A much larger JPEG is then decoded at a half, quarter or eighth of its
            size, never below five quarters of the sizes wanted: this saves most of the time, and changes the result
            less than another resizing filter would.
        megapixels: the most pixels that an image may have, in millions.

    Raises:
        DataError: missing, not an image, truncated, damaged or too large; the message names the file.
    """
    try:
        image = decode(local_path(path), near, megapixels, all_samples=False).pixels
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return image if isinstance(image, Image.Image) else picture(image)


def decode(
    content: Path | bytes,
    near: Sequence[int] | None,
    megapixels: float,
    *,
    page: int | None = None,
    all_samples: bool = True,
) -> Decoded:
    """An image of a file or its content; errors do not name the file.

    Args:
        content: the file.
        near: as `load` has it.
        megapixels: as `load` has it.
        page: the frame; by default the first.
        all_samples: whether samples that Pillow cannot read are asked of tifffile, or refused where they would be lost.

    Raises:
        DataError: as `load`.
    """
    longest = None if near is None else math.ceil(_MARGIN * max(near))
    if isinstance(content, Path):
        content = jpeg.content(content) or content
    if isinstance(content, bytes):
        found = jpeg.decode(content, longest, megapixels)
        # EXIF data, and the XMP data that may take their place, say how the image is turned.
        if found is not None and jpeg.mentions(content, b"Exif", b"Orientation"):
            with opened(content, megapixels) as (image, header):
                if isinstance(image, np.ndarray):
                    raise DataError("not a JPEG file")
                return Decoded(_upright(picture(found[0]), orientation(image)), header)
        if found is not None:
            return Decoded(
                found[0], Header(found[1], found[0].shape[-1], mode="L" if found[0].shape[-1] == 1 else "RGB")
            )
    with opened(content, megapixels, page=page, all_samples=all_samples) as (image, header):
        if isinstance(image, np.ndarray):
            return Decoded(image, header)
        if longest is not None:
            image.draft(None, (longest, longest))
        image.load()
        return Decoded(_upright(image, orientation(image)), header)


def header_of(content: Path | bytes, megapixels: float) -> Header:
    """What the header of an image file says; no pixel is decoded.

    Raises:
        DataError: as `opened`.
    """
    with _file(content) as file:
        return _identified(file, megapixels)[1]


def header_or_reason(content: Path | bytes, megapixels: float, name: str) -> Header | str:
    """What the header of an image file says, or what is wrong with the file.

    Raises:
        DataError: the world failed, and did so again.
    """
    try:
        return patiently(lambda: header_of(content, megapixels))
    except DataError as error:
        if is_of_the_world(error):
            raise world_error(name, error) from error
        return str(error)


@contextlib.contextmanager
def opened(
    content: Path | bytes, megapixels: float, *, page: int | None = None, all_samples: bool = False
) -> Iterator[tuple[Image.Image | NDArray[Any], Header]]:
    """An image, from a file or its content, of which only the header is read; failures in the block are DataErrors.

    What Pillow cannot read in full is given as the array of its samples, where `all_samples` asks for them.

    Raises:
        DataError: missing, not an image, damaged or too large; the message does not name the file.
    """
    with _file(content) as file:
        image, header = _identified(file, megapixels)
        if image is not None and page:
            image.seek(page)
            header = header._replace(size=oriented_size(image))
        if image is None or (header.beyond_pillow and all_samples and _is_lost(header)):
            yield tiff.read_samples(file, header, page or 0), header
        else:
            yield image, header


def _is_lost(header: Header) -> bool:
    """Whether Pillow would drop or misread samples; without tifffile, colors of 16 bits are read with 8."""
    return headers.has_tifffile() or not (
        header.channels in {3, 4} and header.mode in {"RGB", "RGBA"} and header.bits == 16
    )


@contextlib.contextmanager
def _file(content: Path | bytes) -> Iterator[io.BufferedIOBase]:
    """A file or its content; what goes wrong in the block is a DataError."""
    try:
        # Given a name, Pillow maps raw TIFF pixels into memory and mixes up the sizes of those that lie on their side.
        with open_regular(content) if isinstance(content, Path) else io.BytesIO(content) as file:
            yield file  # type: ignore[misc]  # both are buffered
    except DataError:
        raise
    except Exception as error:  # A damaged file can raise anything inside Pillow's many decoders.
        text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        raise DataError(text.partition("\n")[0]) from error


def _identified(file: io.BufferedIOBase, megapixels: float) -> tuple[Image.Image | None, Header]:
    """The image in a file, or None where only its header can be read."""
    image: Image.Image | None
    try:
        image = Image.open(file)  # type: ignore[arg-type]  # a file for bytes is one
    except UnidentifiedImageError as error:
        image, header = None, tiff.read_tiff_header(file)
        if header is None:
            raise DataError("not an image in a format that Pillow knows") from error
    else:
        if image.width * image.height > megapixels * 1e6:
            raise DataError(f"{image.width}×{image.height} pixels are more than {megapixels:g} megapixels")
        header = read_header(image)
    height, width = header.size
    if height * width > megapixels * 1e6:
        raise DataError(f"{width}×{height} pixels are more than {megapixels:g} megapixels")
    return image, header


def _upright(image: Image.Image, turned: int) -> Image.Image:
    """The image turned as its EXIF orientation says."""
    if turned == 1:
        return image
    image.getexif()[ExifTags.Base.Orientation] = turned
    return ImageOps.exif_transpose(image)
