"""One image at a time: from a file to pixels of the size wanted.

Everything that is stored or shown to a network passes through `preprocess`, so that an image comes out the same
whichever way it went in.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import math
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError, _imaging

from convae.core.errors import DataError
from convae.core.names import shape_text
from convae.data.config import Fit
from convae.data.pixels import MODES, Kind, Pixels, as_kind, picture

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
        return load_with_size(Path(path), near, megapixels)[0]
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def load_with_size(
    content: Path | bytes, near: Sequence[int] | None, megapixels: float
) -> tuple[Image.Image, tuple[int, int]]:
    """`load`, of a file or its content, and the height and width there; its errors do not name the file."""
    with opened(content, megapixels) as image:
        size = oriented_size(image)
        if near is not None:
            longest = math.ceil(_MARGIN * max(near))
            image.draft(None, (longest, longest))
        image.load()
        return (ImageOps.exif_transpose(image) if _orientation(image) > 1 else image), size


@contextlib.contextmanager
def opened(content: Path | bytes, megapixels: float) -> Iterator[Image.Image]:
    """An image, from a file or its content, of which only the header is read; failures in the block are DataErrors.

    Raises:
        DataError: missing, not an image, damaged or too large; the message does not name the file.
    """
    try:
        if isinstance(content, Path) and not stat.S_ISREG(content.stat().st_mode):
            # Opening a pipe would block for ever.
            raise DataError("a pipe, device or folder, not a file")
        # Given a name, Pillow maps raw TIFF pixels into memory and mixes up the sizes of those that lie on their side.
        with (
            content.open("rb") if isinstance(content, Path) else io.BytesIO(content) as file,
            Image.open(file) as image,
        ):
            if image.width * image.height > megapixels * 1e6:
                raise DataError(f"{image.width}×{image.height} pixels are more than {megapixels:g} megapixels")
            yield image
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError("not an image in a format that Pillow knows") from error
    except Exception as error:  # A damaged file can raise anything inside Pillow's many decoders.
        text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        raise DataError(text.partition("\n")[0]) from error


def oriented_size(image: Image.Image) -> tuple[int, int]:
    """Height and width of an image after its EXIF orientation is applied; looks at the header only."""
    # Pillow turns TIFF images by itself, and states their size after that.
    turned = image.format != "TIFF" and _orientation(image) in {5, 6, 7, 8}
    return (image.width, image.height) if turned else (image.height, image.width)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1…8, of which 1 is upright; damaged EXIF data say nothing, so upright too."""
    try:
        # PNG's own getexif would read all pixels first.
        found = Image.Image.getexif(image).get(ExifTags.Base.Orientation)
    except Exception:  # As with pixels, damage can raise anything.
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def preprocess(
    image: Image.Image | Pixels,
    size: Sequence[int],
    *,
    channels: int | None = None,
    fit: Fit = "crop",
    kind: Kind | None = None,
) -> Pixels:
    """Brings an image to a size, a number of channels and a type; one that has them already is returned as it is.

    Resizing is antialiased: bicubic, as Parmar, Zhang and Zhu (2022) recommend for images that are compared by their
    features. Transparency is kept in four channels and laid over white otherwise; the bars of `pad` are black, or
    transparent in four channels. Values change their type by their range: 65535 of 16 bits is 255 of 8 and 1.0.

    Args:
        image: a Pillow image of any mode, or an array (*sizes, channels).
        size: spatial sizes, height first.
        channels: 1 grey, 3 RGB, 4 RGBA; any other number, for arrays, only where it is what the array has. None
            keeps an array's channels; a Pillow image becomes grey where it is grey and RGB otherwise.
        fit: `crop` fills the size with the image's centre, `pad` shows all of it between bars, `squash` distorts it.
        kind: the type of the values; None keeps an array's, and gives bytes for a Pillow image.

    Returns:
        (*size, channels).

    Raises:
        DataError: the image cannot be brought to that size, number of channels or type.
    """
    size = tuple(size)
    if isinstance(image, Image.Image) and image.mode == "I;16" and kind in {"uint16", "float32"}:
        image = np.asarray(image)[..., None]
    if isinstance(image, np.ndarray):
        channels = channels or image.shape[-1]
        if image.shape == (*size, channels):
            return as_kind(image, kind or image.dtype.name)
        if image.ndim != 3 or len(size) != 2:
            raise DataError(f"values of shape {shape_text(image.shape)} cannot be resized to {shape_text(size)}")
        if channels == image.shape[-1] and (channels not in MODES or image.dtype != np.uint8):
            return _resized_layers(image, size, fit, kind or image.dtype.name)
        image = picture(as_kind(image, "uint8"))
    if len(size) != 2:
        raise DataError(f"an image has a height and a width, and cannot be brought to {shape_text(size)}")
    channels = channels or (1 if is_grey(image) else 3)
    # Grey pixels are resized once, not once for each channel that they become.
    first = 1 if channels == 3 and is_grey(image) and not image.has_transparency_data else channels
    fitted = _fitted(_with_channels(image, first), size, fit)
    return as_kind(np.asarray(_with_channels(fitted, channels)).reshape(*size, channels), kind or "uint8")


def _resized_layers(image: Pixels, size: Sequence[int], fit: Fit, kind: str) -> Pixels:
    """Each channel of an array brought to a size by itself, whatever they show."""
    if image.dtype == np.uint8:
        layers = [_fitted(Image.fromarray(image[..., layer]), size, fit) for layer in range(image.shape[-1])]
        return as_kind(np.stack([np.asarray(layer) for layer in layers], axis=-1), kind)
    shares = as_kind(image, "float32")
    layers = [_fitted(Image.fromarray(shares[..., layer]), size, fit) for layer in range(image.shape[-1])]
    # A bicubic curve overshoots beside edges.
    return as_kind(np.stack([np.asarray(layer) for layer in layers], axis=-1).clip(0, 1), kind)


def load_and_preprocess(
    path: str | Path, size: Sequence[int], *, channels: int | None = None, fit: Fit = "crop"
) -> Pixels:
    """`load`, then `preprocess`: (*size, channels).

    Raises:
        DataError: the file cannot be read as an image, or not brought to that size.
    """
    return preprocess(load(path, near=size), size, channels=channels, fit=fit)


def is_grey(image: Image.Image) -> bool:
    """Whether the image's mode has no colour; looks at the header only."""
    return image.mode in {"1", "L", "LA", "La", "I", "F"} or image.mode.startswith("I;16")


def _with_channels(image: Image.Image, channels: int) -> Image.Image:
    """The image in the mode that has so many channels."""
    if channels not in MODES:
        raise DataError(f"an image becomes 1 (grey), 3 (RGB) or 4 (RGBA) channels, not {channels}")
    if image.mode in {"I", "F"} or image.mode.startswith("I;16"):
        image = _eight_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if channels != 4:
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image).convert("RGB")
    return image if image.mode == MODES[channels] else image.convert(MODES[channels])


def _eight_bits(image: Image.Image) -> Image.Image:
    """A grey image of 16 bits, which Pillow may hold in 32, scaled to 8."""
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise DataError("floating-point or 32-bit pixels have no fixed range: convert them to 8 or 16 bits")
    return Image.fromarray(np.rint(values.astype(np.float32) / 257).astype(np.uint8))


def _fitted(image: Image.Image, size: Sequence[int], fit: Fit) -> Image.Image:
    """The image at exactly the size (height, width)."""
    height, width = size
    if image.size == (width, height):
        return image
    if fit == "squash":
        return _resized(image, (width, height), (0, 0, *image.size))
    across, down = image.width / width, image.height / height
    if fit == "crop":
        scale = min(across, down)
        left, top = (image.width - scale * width) / 2, (image.height - scale * height) / 2
        box = (
            max(left, 0.0),
            max(top, 0.0),
            min(left + scale * width, image.width),
            min(top + scale * height, image.height),
        )
        return _resized(image, (width, height), box)
    scale = max(across, down)
    inner = tuple(
        max(1, min(limit, math.floor(side / scale + 0.5)))
        for side, limit in zip(image.size, (width, height), strict=True)
    )
    bars = Image.new(image.mode, (width, height))
    bars.paste(_resized(image, inner, (0, 0, *image.size)), ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return bars


def _resized(image: Image.Image, size: tuple[int, ...], box: tuple[float, ...]) -> Image.Image:
    """The part of the image inside `box`, resized; far larger ones are first reduced by whole factors."""
    return image.resize(
        (size[0], size[1]), Image.Resampling.BICUBIC, box=(box[0], box[1], box[2], box[3]), reducing_gap=3.0
    )
