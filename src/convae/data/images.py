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
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError, _imaging
from torch.nn import functional as F

from convae.core.errors import ConfigError, DataError
from convae.core.names import shape_text, unknown
from convae.data import jpeg
from convae.data.config import Fit
from convae.data.pixels import MODES, Kind, Pixels, as_kind, picture

MEGAPIXELS = 80.0
"""Larger images are refused: a small file may claim pixels that fill the memory."""
_SMALL = 1 << 18
"""Bytes of the largest images that are worth being resized together."""
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
        image = load_with_size(Path(path), near, megapixels)[0]
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return image if isinstance(image, Image.Image) else picture(image)


def load_with_size(
    content: Path | bytes, near: Sequence[int] | None, megapixels: float
) -> tuple[Image.Image | Pixels, tuple[int, int]]:
    """`load`, of a file or its content, and the height and width there; its errors do not name the file."""
    longest = None if near is None else math.ceil(_MARGIN * max(near))
    if isinstance(content, Path):
        content = jpeg.content(content) or content
    if isinstance(content, bytes):
        found = jpeg.decode(content, longest, megapixels)
        # EXIF data, and the XMP data that may take their place, say how the image is turned.
        if found is not None and jpeg.mentions(content, b"Exif", b"Orientation"):
            with opened(content, megapixels) as image:
                return _upright(picture(found[0]), _orientation(image)), oriented_size(image)
        if found is not None:
            return found
    with opened(content, megapixels) as image:
        size = oriented_size(image)
        if longest is not None:
            image.draft(None, (longest, longest))
        image.load()
        return _upright(image, _orientation(image)), size


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    """The image turned as its EXIF orientation says."""
    if orientation == 1:
        return image
    image.getexif()[ExifTags.Base.Orientation] = orientation
    return ImageOps.exif_transpose(image)


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
    size: int | Sequence[int],
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
        size: spatial sizes, height first; a number for a square.
        channels: 1 grey, 3 RGB, 4 RGBA; any other number, for arrays, only where it is what the array has. None
            keeps an array's channels; a Pillow image becomes grey where it is grey and RGB otherwise.
        fit: `crop` fills the size with the image's centre, `pad` shows all of it between bars, `squash` distorts it.
        kind: the type of the values; None keeps an array's, and gives bytes for a Pillow image.

    Returns:
        (*size, channels).

    Raises:
        DataError: the image cannot be brought to that size, number of channels or type.
        ConfigError: no such fit.
    """
    if fit not in get_args(Fit):
        raise ConfigError(unknown("fit", fit, get_args(Fit)))
    size = _sides(size)
    if isinstance(image, Image.Image) and image.mode == "I;16" and kind in {"uint16", "float32"}:
        image = np.array(image)[..., None]
    if isinstance(image, np.ndarray):
        channels = channels or image.shape[-1]
        if image.shape == (*size, channels):
            return as_kind(image, kind or image.dtype.name)
        if image.ndim != 3 or len(size) != 2:
            raise DataError(f"values of shape {shape_text(image.shape)} cannot be resized to {shape_text(size)}")
        if channels == image.shape[-1]:
            return as_kind(_fitted(image[None], size, fit)[0], kind or image.dtype.name)
        image = picture(as_kind(image, "uint8"))
    if len(size) != 2:
        raise DataError(f"an image has a height and a width, and cannot be brought to {shape_text(size)}")
    channels = channels or (1 if is_grey(image) else 3)
    # Grey pixels are resized once, not once for each channel that they become.
    first = 1 if channels == 3 and is_grey(image) and not image.has_transparency_data else channels
    pixels = np.array(_with_channels(image, first)).reshape(image.height, image.width, first)
    fitted = _fitted(pixels[None], size, fit)[0]
    return as_kind(np.repeat(fitted, channels // first, axis=-1), kind or "uint8")


def load_and_preprocess(
    path: str | Path, size: int | Sequence[int], *, channels: int | None = None, fit: Fit = "crop"
) -> Pixels:
    """`load`, then `preprocess`: (*size, channels).

    Raises:
        DataError: the file cannot be read as an image, or not brought to that size.
        ConfigError: no such fit.
    """
    sides = _sides(size)
    return preprocess(load(path, near=sides), sides, channels=channels, fit=fit)


def _sides(size: int | Sequence[int]) -> tuple[int, ...]:
    """A size as one number for each axis."""
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if not all(side > 0 for side in sides):
        raise DataError(
            f"no image can be brought to {shape_text(sides)}: a size has at least one pixel along each axis"
        )
    return sides


def alike(image: Image.Image | Pixels, channels: int) -> NDArray[np.uint8] | None:
    """The bytes of an image that `preprocess_alike` takes, of so many channels; None where `preprocess` has to."""
    if isinstance(image, Image.Image):
        if channels == 4 or image.mode != MODES.get(channels) or image.has_transparency_data:
            return None
        image = np.array(image).reshape(image.height, image.width, channels)
    fits = image.ndim == 3 and image.dtype == np.uint8 and image.shape[-1] == channels != 4
    return image if fits and image.nbytes <= _SMALL else None  # type: ignore[return-value]  # they are bytes


def preprocess_alike(images: Sequence[NDArray[np.uint8]], size: Sequence[int], fit: Fit) -> NDArray[np.uint8]:
    """`preprocess` of images of one shape at once, which takes small ones half of the time.

    Returns:
        (image, *size, channels).
    """
    return _fitted(np.stack(images), size, fit)  # type: ignore[return-value]  # bytes stay bytes


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


def _fitted(pixels: Pixels, size: Sequence[int], fit: Fit) -> Pixels:
    """Images of one shape at exactly the size (height, width)."""
    sides = pixels.shape[1:3]
    if sides == tuple(size):
        return pixels
    if fit == "squash":
        return _resized(pixels, size)
    if fit == "pad":
        inner, (top, left) = _padded(sides, tuple(size))
        bars = np.zeros((len(pixels), *size, pixels.shape[-1]), pixels.dtype)
        bars[:, top : top + inner[0], left : left + inner[1]] = _resized(pixels, inner)
        return bars
    (above, beside), (top, left), larger = _cropped(sides, tuple(size))
    inside = _resized(pixels[:, above : sides[0] - above, beside : sides[1] - beside], larger)
    return inside[:, top : top + size[0], left : left + size[1]]


@lru_cache(maxsize=1024)
def _padded(sides: tuple[int, ...], size: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """The sizes of all of an image inside `size`, and the widths of the bars before it."""
    scale = max(Fraction(side, wanted) for side, wanted in zip(sides, size, strict=True))
    inner = [max(1, math.floor(side / scale + Fraction(1, 2))) for side in sides]
    return inner, [(wanted - part) // 2 for wanted, part in zip(size, inner, strict=True)]


@lru_cache(maxsize=1024)
def _cropped(sides: tuple[int, ...], size: tuple[int, ...]) -> tuple[list[int], list[int], list[int]]:
    """How the centre of an image fills `size`, with whole pixels and the same on both sides.

    Returns:
        How much of the image is cut off on each side of each axis; how much of the result, once it is resized; and
        the size that it is resized to.
    """
    scale = min(Fraction(side, wanted) for side, wanted in zip(sides, size, strict=True))
    before = [math.floor((side - scale * wanted) / 2) for side, wanted in zip(sides, size, strict=True)]
    kept = [side - 2 * margin for side, margin in zip(sides, before, strict=True)]
    after = [round((part / scale - wanted) / 2) for part, wanted in zip(kept, size, strict=True)]
    return before, after, [wanted + 2 * margin for wanted, margin in zip(size, after, strict=True)]


def _resized(pixels: Pixels, size: Sequence[int]) -> Pixels:
    """Images at a size (height, width), each channel by itself but for the colours of what is transparent."""
    if pixels.dtype != np.uint8:
        # A bicubic curve overshoots beside edges.
        return as_kind(_interpolated(as_kind(pixels, "float32"), size).clip(0, 1), pixels.dtype.name)
    if pixels.shape[-1] != 4 or (pixels[..., 3] == 255).all():
        return _interpolated(pixels, size)
    return np.stack([_transparent(image, size) for image in pixels])


def _transparent(image: NDArray[np.uint8], size: Sequence[int]) -> NDArray[np.uint8]:
    """An RGBA image at a size: what is transparent has no colour that its neighbours could take on."""
    weighted = _interpolated(np.array(picture(image).convert("RGBa"))[None], size)
    return np.array(Image.frombytes("RGBa", (size[1], size[0]), weighted.tobytes()).convert("RGBA"))


def _interpolated(pixels: NDArray[Any], size: Sequence[int]) -> NDArray[Any]:
    """Pillow's antialiased bicubic resizing as torch has it: of bytes within one level, in a third of the time."""
    if not pixels.flags.writeable or min(pixels.strides) < 0:
        pixels = pixels.copy()  # torch has neither read-only tensors nor reversed axes
    resized = F.interpolate(torch.from_numpy(pixels).permute(0, 3, 1, 2), tuple(size), mode="bicubic", antialias=True)
    return np.ascontiguousarray(resized.permute(0, 2, 3, 1).numpy())
