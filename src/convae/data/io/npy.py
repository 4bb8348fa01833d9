"""Reading .npy and .npz files: shapes and types from the headers, values without unpickling."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convae.core.errors import DataError
from convae.core.files import open_regular


@dataclass(frozen=True)
class StoredArray:
    """An array in a file, of which only the header has been read.

    Attributes:
        shape, dtype: from the header; arrays of Python objects are never read.
        read: returns the values.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], NDArray[Any]]


def open_npy(path: Path) -> StoredArray:
    """Opens the array in a .npy file as a memory map.

    Raises:
        DataError: the file is missing, damaged, or contains Python objects.
    """
    try:
        # Kept open, so that the mapped file is the checked one.
        with open_regular(path):
            array = np.load(path, mmap_mode="r", allow_pickle=False)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except (ValueError, EOFError) as error:
        raise DataError(f"{path}: not a .npy file of numbers, or damaged") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    return StoredArray(array.shape, array.dtype, lambda: array)


def open_npz(path: Path) -> dict[str, StoredArray]:
    """Opens the arrays in a .npz file by name; arrays of Python objects are listed but cannot be read.

    Raises:
        DataError: the file is missing or damaged.
    """
    found: dict[str, StoredArray] = {}
    try:
        with open_regular(path) as content, zipfile.ZipFile(content) as archive:
            for member in archive.infolist():
                with archive.open(member) as file:
                    shape, dtype = _header(file)
                if not dtype.hasobject and math.prod(shape) * dtype.itemsize > member.file_size:
                    raise DataError(f"{member.filename} is shorter than its header says")
                name = member.filename.removesuffix(".npy")
                found[name] = StoredArray(shape, dtype, _reader(path, name))
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{path}: not a .npz file, or damaged ({error})") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    return found


def _header(file: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type in the header of a .npy file."""
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(file)
    if version not in readers:
        raise ValueError(f"version {version} of the format")
    shape, _, dtype = readers[version](file)
    return shape, dtype


def _reader(path: Path, name: str) -> Callable[[], NDArray[Any]]:
    def read() -> NDArray[Any]:
        try:
            with open_regular(path) as content, np.load(content, allow_pickle=False) as arrays:
                values: NDArray[Any] = arrays[name]
        except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
            raise DataError(f"{path}: {name} is damaged ({error})") from error
        return values

    return read
