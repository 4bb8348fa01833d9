"""Bit depth of JPEG 2000 and AVIF files from their headers; Pillow silently reduces it to 8."""

from __future__ import annotations

from io import BufferedIOBase

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
