"""Opening and decoding image files, with limits, in upright orientation, at the size needed."""

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
from convae.data.images import headers, jpeg, tiff
from convae.data.images.headers import PHOTOMETRIC, WHITE_IS_ZERO, Header, orientation, oriented_size, read_header
from convae.data.images.pixels import picture
from convae.data.io.retries import is_transient, retry, transient_error

MEGAPIXELS = 80.0
"""Size limit of an image in millions of pixels, since a small file can decode to any size."""
_MARGIN = 1.25
"""Smallest size of a reduced decoding, as a multiple of the size needed."""


def _quiet_tiff() -> None:
    """Keeps libtiff from printing errors to stderr, which Pillow raises as well."""
    with contextlib.suppress(OSError, AttributeError):
        # Found through Pillow's library, which is linked to it.
        library = ctypes.CDLL(_imaging.__file__)
        library.TIFFSetErrorHandler(None)
        library.TIFFSetWarningHandler(None)


_quiet_tiff()


class Decoded(NamedTuple):
    """An image as stored in its file.

    Attributes:
        pixels: a Pillow image, or an array (height, width, channels) of any type.
        header: header of the file, with the size before reduced decoding.
    """

    pixels: Image.Image | NDArray[Any]
    header: Header


def load(path: str | Path, *, near: Sequence[int] | None = None, megapixels: float = MEGAPIXELS) -> Image.Image:
    """Reads the first frame of an image file, with its EXIF orientation applied.

    Args:
        path: any file that Pillow can read.
        near: the spatial sizes needed. A much larger JPEG is decoded at a half, quarter or eighth of its size, but at
            1.25 times the sizes needed or more. This saves most of the time, and changes the result less than a
            different resizing filter would.
        megapixels: size limit in millions of pixels.

    Raises:
        DataError: missing, not an image, truncated, damaged or too large.
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
    """Decodes a file or its content; errors do not name the file.

    Args:
        content: path or bytes.
        near: see `load`.
        megapixels: see `load`.
        page: index of the frame; by default the first.
        all_samples: whether to read values that Pillow cannot by tifffile, and to refuse the image if that is
            impossible.

    Raises:
        DataError: see `load`.
    """
    longest = None if near is None else math.ceil(_MARGIN * max(near))
    if isinstance(content, Path):
        content = jpeg.content(content) or content
    if isinstance(content, bytes):
        found = jpeg.decode(content, longest, megapixels)
        # EXIF or XMP data contain the orientation.
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
        is_negative = image.mode.startswith("I;16") and getattr(image, "tag_v2", {}).get(PHOTOMETRIC) == WHITE_IS_ZERO
        image.load()
        upright = _upright(image, orientation(image))
        if is_negative:  # which Pillow inverts for 8 bits only
            upright = Image.fromarray((1 << header.bits) - 1 - np.array(upright))
        return Decoded(upright, header)


def header_of(content: Path | bytes, megapixels: float) -> Header:
    """The header of an image file, without decoding pixels.

    Raises:
        DataError: see `opened`.
    """
    with _file(content) as file:
        return _identified(file, megapixels)[1]


def header_or_reason(content: Path | bytes, megapixels: float, name: str) -> Header | str:
    """The header of an image file, or the reason why it is unreadable.

    Raises:
        DataError: reading failed for an external reason after retries.
    """
    try:
        return retry(lambda: header_of(content, megapixels))
    except DataError as error:
        if is_transient(error):
            raise transient_error(name, error) from error
        return str(error)


@contextlib.contextmanager
def opened(
    content: Path | bytes, megapixels: float, *, page: int | None = None, all_samples: bool = False
) -> Iterator[tuple[Image.Image | NDArray[Any], Header]]:
    """Opens an image and reads its header; errors in the block become `DataError`.

    With `all_samples`, an image that Pillow cannot read fully is an array.

    Raises:
        DataError: missing, not an image, damaged or too large.
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
    """Whether Pillow would drop or misread values; without tifffile, 16-bit colors are read with 8 bits."""
    return headers.has_tifffile() or not (
        header.channels in {3, 4} and header.mode in {"RGB", "RGBA"} and header.bits == 16
    )


@contextlib.contextmanager
def _file(content: Path | bytes) -> Iterator[io.BufferedIOBase]:
    """Opens a file or its content; errors in the block become `DataError`."""
    try:
        # Given a path, Pillow maps raw TIFF pixels into memory and swaps the sizes of rotated ones.
        with open_regular(content) if isinstance(content, Path) else io.BytesIO(content) as file:
            yield file  # type: ignore[misc]  # both are buffered
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders can raise anything for a damaged file.
        text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        raise DataError(text.partition("\n")[0]) from error


def _identified(file: io.BufferedIOBase, megapixels: float) -> tuple[Image.Image | None, Header]:
    """The image in a file, or None if only its header is readable, with the header."""
    image: Image.Image | None
    try:
        image = Image.open(file)  # type: ignore[arg-type]  # a file for bytes is one
    except UnidentifiedImageError as error:
        image, header = None, tiff.read_tiff_header(file)
        if header is None:
            raise DataError("not an image in a format that Pillow supports") from error
    else:
        if image.width * image.height > megapixels * 1e6:
            raise DataError(f"{image.width}×{image.height} pixels are more than {megapixels:g} megapixels")
        header = read_header(image)
    height, width = header.size
    if height * width > megapixels * 1e6:
        raise DataError(f"{width}×{height} pixels are more than {megapixels:g} megapixels")
    return image, header


def _upright(image: Image.Image, turned: int) -> Image.Image:
    """Applies an EXIF orientation."""
    if turned == 1:
        return image
    image.getexif()[ExifTags.Base.Orientation] = turned
    return ImageOps.exif_transpose(image)
