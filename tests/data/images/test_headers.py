"""Bits that Pillow cuts without a word are read from the header, and named."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convae.core.errors import DataError
from convae.data import DataConfig, open_split
from convae.data.images.reading import header_of

CODESTREAM = b"\xff\x4f\xff\x51"


def encoded(photo: Callable[..., Image.Image], format: str, mode: str = "RGB") -> bytearray:
    file = io.BytesIO()
    photo(16, 16, mode).save(file, format)
    return bytearray(file.getvalue())


def jpeg_2000(photo: Callable[..., Image.Image], bits: int, mode: str = "RGB") -> bytes:
    """A file whose samples are said to have so many bits."""
    content = encoded(photo, "JPEG2000", mode)
    content[content.find(b"ihdr") + 14] = bits - 1
    for component in range(3 if mode == "RGB" else 2):
        content[content.find(CODESTREAM) + 42 + 3 * component] = bits - 1
    return bytes(content)


def avif(photo: Callable[..., Image.Image], bits: int, mode: str = "RGB") -> bytes:
    content = encoded(photo, "AVIF", mode)
    content[content.find(b"av1C") + 6] |= {8: 0, 10: 0x40, 12: 0x60}[bits]
    start = content.find(b"pixi") + 8
    for channel in range(content[start]):
        content[start + 1 + channel] = bits
    return bytes(content)


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_bits_of_jpeg_2000_colors(photo: Callable[..., Image.Image], bits: int) -> None:
    content = jpeg_2000(photo, bits)
    assert header_of(content, 1.0).bits == bits
    raw = content[content.find(CODESTREAM) :]
    assert header_of(raw, 1.0).bits == bits
    varying = bytearray(content)
    varying[varying.find(b"ihdr") + 14] = 255
    assert header_of(bytes(varying), 1.0).bits == bits


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("bits", [8, 10, 12])
def test_bits_of_avif(photo: Callable[..., Image.Image], bits: int, mode: str) -> None:
    header = header_of(avif(photo, bits, mode), 1.0)
    assert (header.bits, header.kind) == (bits, "uint8")


def test_gray_jpeg_2000_of_16_bits_keeps_them(tmp_path: Path) -> None:
    values = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    (tmp_path / "set").mkdir()
    Image.fromarray(values).save(tmp_path / "set" / "a.jp2")
    split = open_split(DataConfig(source=tmp_path / "set"), "all")
    assert split.kind == "uint16"
    assert not [note for note in split.notes if "bits" in note]


@pytest.mark.parametrize(
    ("make", "mode", "name", "bits"),
    [
        (jpeg_2000, "RGB", "a.jp2", 16),
        (avif, "RGB", "a.avif", 8),
        (avif, "RGB", "a.avif", 10),
        (jpeg_2000, "LA", "a.jp2", 16),
    ],
)
def test_images_that_lose_bits_are_named(
    tmp_path: Path, photo: Callable[..., Image.Image], make: Callable[..., Any], mode: str, name: str, bits: int
) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / name).write_bytes(make(photo, bits, mode))
    split = open_split(DataConfig(source=tmp_path / "set"), "all")
    assert split.kind == "uint8"
    named = [note for note in split.notes if "more than 8 bits" in note and name in note]
    assert len(named) == (bits > 8)


def test_truncated_headers_are_no_deeper_than_8_bits(tmp_path: Path, photo: Callable[..., Image.Image]) -> None:
    for format in ("JPEG2000", "AVIF"):
        content = bytes(encoded(photo, format))
        for length in range(0, 300, 7):
            (tmp_path / "cut").write_bytes(content[:length])
            with contextlib.suppress(DataError):
                assert header_of(tmp_path / "cut", 1.0).bits == 8
