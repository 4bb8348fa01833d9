"""Reading the headers of image files, without decoding pixels."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from io import BufferedIOBase
from typing import Any, NamedTuple

from PIL import ExifTags, Image

from convae.core.names import count_text
from convae.data.images.pixels import Kind

_PAGED = frozenset({"TIFF", "GIF", "WEBP", "PNG", "AVIF"})
"""Formats whose further frames are separate images; in other formats they are previews."""
_BITS, _SAMPLES, _SUBFILE, _SAMPLE_FORMAT = 258, 277, 254, 339
"""Tags of TIFF."""
_SIGNED, _FLOAT = 2, 3
PHOTOMETRIC, WHITE_IS_ZERO, _CMYK = 262, 0, 5
"""The TIFF tag that says what values mean, and two of its values."""


class Header(NamedTuple):
    """The header of an image file.

    Attributes:
        size: height and width after the EXIF orientation is applied.
        channels: channels of a pixel, including alpha.
        bits: bits per channel.
        is_float: whether values are floating-point numbers.
        pages: indices of the frames that are separate images.
        transparent: whether the image has transparency.
        format: Pillow's name of the file format.
        mode: Pillow's mode, or the number of channels that Pillow cannot read.
        beyond_pillow: why Pillow cannot read all values; empty if it can.
    """

    size: tuple[int, int]
    channels: int
    bits: int = 8
    is_float: bool = False
    pages: Sequence[int] = (0,)
    transparent: bool = False
    format: str = "JPEG"
    mode: str = "RGB"
    beyond_pillow: str = ""

    @property
    def kind(self) -> Kind:
        """The type of the values as read; Pillow reads more than 8 bits in gray images only."""
        cut = self.channels > 1 or self.mode in {"L", "LA"}
        if cut and self.bits > 8 and not (self.beyond_pillow and has_tifffile()):
            return "uint8"
        return "float32" if self.is_float else "uint16" if self.bits > 8 else "uint8"  # a byte


def has_tifffile() -> bool:
    """Whether tifffile is installed, which reads TIFF files that Pillow cannot."""
    return importlib.util.find_spec("tifffile") is not None


def read_header(image: Image.Image) -> Header:
    """The header of an image opened by Pillow."""
    tags = getattr(image, "tag_v2", {})
    bits, is_float = _depth(image, tags)
    transparent = image.has_transparency_data
    beyond = _beyond_pillow(image, tags, bits) if tags else ""
    channels = int(tags.get(_SAMPLES, 1)) if beyond else 1 if is_gray(image) else 3
    return Header(
        oriented_size(image),
        channels,
        bits,
        is_float,
        _pages(image),
        transparent,
        image.format or "",
        image.mode,
        beyond,
    )


def tiff_header(tags: Any) -> Header:
    """The header of a TIFF file that Pillow cannot open, from its tags."""
    samples, bits, sample_format = _samples(tags)
    width, height = int(tags.get(256, 0)), int(tags.get(257, 0))
    kind = {_SIGNED: "signed ", _FLOAT: "floating-point "}.get(sample_format, "")
    return Header(
        (height, width),
        samples,
        bits,
        sample_format == _FLOAT,
        format="TIFF",
        mode=f"{samples}×{bits}",
        beyond_pillow=f"{samples} {kind}channels of {bits} bits",
    )


def is_gray(image: Image.Image) -> bool:
    """Whether the mode of the image is gray; reads the header only."""
    return image.mode in {"1", "L", "LA", "La", "I", "F"} or image.mode.startswith("I;16")


def oriented_size(image: Image.Image) -> tuple[int, int]:
    """Height and width of an image after its EXIF orientation is applied; reads the header only."""
    # Pillow orients TIFF images itself, and reports the oriented size.
    turned = image.format != "TIFF" and orientation(image) in {5, 6, 7, 8}
    return (image.width, image.height) if turned else (image.height, image.width)


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 is upright, also for damaged EXIF data."""
    try:
        # getexif of PNG images would read all pixels first.
        found = Image.Image.getexif(image).get(ExifTags.Base.Orientation)
    except Exception:  # Damaged data can raise anything.
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _samples(tags: Any) -> tuple[int, int, int]:
    """Channels per pixel, bits per channel, and the TIFF sample format."""
    bits = tags.get(_BITS, (1,))
    formats = tags.get(_SAMPLE_FORMAT, (1,))
    return int(tags.get(_SAMPLES, 1)), int(max(bits)), int(max(formats))


def _depth(image: Image.Image, tags: Any) -> tuple[int, bool]:
    """Bits per channel in the file, and whether values are floating-point numbers."""
    if tags:
        _, bits, sample_format = _samples(tags)
        return bits, sample_format == _FLOAT
    if image.mode == "F":
        return 32, True
    if image.mode == "1":
        return 1, False
    tiles: list[Any] = getattr(image, "tile", [])
    arguments = str(tiles[0].args) if tiles else ""
    deep = image.mode == "I" or image.mode.startswith("I;16") or ";16" in arguments
    # For PPM files, the largest value is an argument of the decoder.
    largest = tiles[0].args if tiles and image.format == "PPM" else ()
    deep = deep or (isinstance(largest, tuple) and any(isinstance(value, int) and value > 255 for value in largest))
    return (16 if deep else _coded_bits(image)), False


def _coded_bits(image: Image.Image) -> int:
    """Bits per channel for formats in which Pillow's mode does not state them."""
    file = getattr(image, "fp", None)
    return 8 if file is None else coded_bits(file, image.format or "")


def _beyond_pillow(image: Image.Image, tags: Any, bits: int) -> str:
    """Values of a TIFF file that Pillow drops, truncates or misreads; empty if it reads all of them."""
    samples, _, sample_format = _samples(tags)
    what = f"{count_text(samples, 'channel')} of {bits} bits"
    if tags.get(PHOTOMETRIC) == _CMYK:  # Pillow converts it, from its upper 8 bits
        return ""
    if samples != len(image.getbands()):
        return what
    if samples > 1 and bits > 8:  # not supported by Pillow
        return what
    return f"signed {what}" if sample_format == _SIGNED and bits <= 8 else ""


def _pages(image: Image.Image) -> tuple[int, ...]:
    """Indices of the frames that are separate images, not reduced copies of others."""
    count = getattr(image, "n_frames", 1) if image.format in _PAGED else 1
    if count == 1 or image.format != "TIFF":
        return tuple(range(count))
    found = []
    for page in range(count):
        image.seek(page)
        if not int(image.tag_v2.get(_SUBFILE, 0)) & 1:  # type: ignore[attr-defined]  # TIFF images have it
            found.append(page)
    image.seek(0)
    return tuple(found) or (0,)


_HEADER_BYTES = 1 << 16
"""Number of bytes that are read for the header."""
_CODESTREAM = b"\xff\x4f\xff\x51"
"""Start of a JPEG 2000 codestream: the markers SOC and SIZ (ISO/IEC 15444-1, A.5.1)."""
_COMPONENT_COUNT, _COMPONENTS, _COMPONENT_BYTES = 40, 42, 3
"""Offsets from there: number of components, then the bits of each minus one, below a sign bit."""
_IHDR_BITS = 14
"""Offset of the bits minus one from the name of the image header box; 255 means that components differ."""
_AV1_CONFIG = b"av1C\x81"
"""The AV1 codec configuration box, with its marker and version."""
_HIGH_BITDEPTH, _TWELVE_BIT = 0x40, 0x20
"""Flags in the second byte after that (AV1-ISOBMFF, 2.3.3)."""
_SIGN = 0x80


def coded_bits(file: BufferedIOBase, format: str) -> int:
    """The largest bit depth of a component of a JPEG 2000 or AVIF file; 8 for other formats.

    Args:
        file: open file; its position is restored.
        format: Pillow's name of the format.
    """
    readers = {"JPEG2000": _jpeg_2000_bits, "AVIF": _avif_bits}
    if format not in readers:
        return 8
    position = file.tell()
    file.seek(0)
    head = file.read(_HEADER_BYTES)
    file.seek(position)
    return readers[format](head)


def _jpeg_2000_bits(head: bytes) -> int:
    box = head.find(b"ihdr")
    if box >= 0 and len(head) > box + _IHDR_BITS and head[box + _IHDR_BITS] != 255:
        return (head[box + _IHDR_BITS] & ~_SIGN) + 1
    start = head.find(_CODESTREAM)
    if start < 0 or len(head) < start + _COMPONENTS:
        return 8
    count = int.from_bytes(head[start + _COMPONENT_COUNT : start + _COMPONENTS], "big")
    first = start + _COMPONENTS
    depths = head[first : first + count * _COMPONENT_BYTES : _COMPONENT_BYTES]
    return max(((depth & ~_SIGN) + 1 for depth in depths), default=8)


def _avif_bits(head: bytes) -> int:
    bits = 8
    start = head.find(_AV1_CONFIG)
    while start >= 0:
        flags = head[start + 6] if len(head) > start + 6 else 0
        if flags & _HIGH_BITDEPTH:
            bits = max(bits, 12 if flags & _TWELVE_BIT else 10)
        start = head.find(_AV1_CONFIG, start + 1)
    return bits
