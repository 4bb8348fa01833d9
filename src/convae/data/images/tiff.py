"""Reading TIFF files that Pillow drops, truncates or misreads, by tifffile (the extra `tiff`)."""

from __future__ import annotations

import importlib
from io import BufferedIOBase
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from convae.core.errors import DataError
from convae.data.images import headers
from convae.data.images.headers import Header, tiff_header

SUFFIXES = (".tif", ".tiff")
_PLAIN = frozenset({0, 1, 2, 32803, 34892})
"""Photometric interpretations whose values are intensities: gray, RGB, and raw camera values."""
_MAGIC = (b"II*\0", b"MM\0*")


def read_tiff_header(file: BufferedIOBase) -> Header | None:
    """The header of a TIFF file that Pillow cannot open; None if it is not a TIFF file."""
    file.seek(0)
    head = file.read(8)
    if head[:4] not in _MAGIC:
        return None
    tags = ImageFileDirectory_v2(head)
    file.seek(tags.next)
    tags.load(file)  # type: ignore[arg-type]  # a file for bytes is one
    return tiff_header(tags) if tags.get(256) and tags.get(257) else None


def read_samples(file: BufferedIOBase, header: Header, page: int) -> NDArray[Any]:
    """All values of a page: (height, width, channels).

    Raises:
        DataError: tifffile is not installed, or cannot read them.
    """
    if not headers.has_tifffile():
        raise DataError(f"has {header.beyond_pillow}. Install the extra: pip install 'convae[tiff]'")
    tifffile = importlib.import_module("tifffile")
    file.seek(0)
    try:
        with tifffile.TiffFile(file, name="image.tif") as stack:
            found = stack.pages[page]
            samples: NDArray[Any] = np.asarray(found.asarray())
            axes, photometric = found.axes, int(found.photometric)
    except OSError:
        raise
    except Exception as error:  # Damaged files and missing codecs can raise anything.
        raise DataError(str(error).partition("\n")[0] or type(error).__name__) from error
    if photometric not in _PLAIN:
        raise DataError(f"has {header.mode} values in another color space (TIFF photometric {photometric}). Use RGB")
    if samples.dtype.kind not in "biuf":
        raise DataError(f"has values of type {samples.dtype}. Use real numbers")
    if axes == "SYX":
        samples = np.moveaxis(samples, 0, -1)
    if axes == "YX":
        samples = samples[..., None]
    if samples.ndim != 3:
        raise DataError(f"a page with axes {axes} is not an image")
    return np.ascontiguousarray(samples.astype(samples.dtype.newbyteorder("=")))
