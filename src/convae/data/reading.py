"""Files of data as they are opened here: regular ones alone, and never more of one than it may hold."""

from __future__ import annotations

import os
import stat
from io import BufferedReader
from pathlib import Path

from convae.core.errors import DataError


def open_regular(path: Path) -> BufferedReader:
    """Opens a regular file for reading; a pipe or device would block or never end.

    Raises:
        DataError: there is something else than a file; the message does not name the path.
        OSError: it cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise DataError("a folder, not a file")
        if not stat.S_ISREG(mode):
            raise DataError("a pipe or device, not a file")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path, largest: int) -> bytes:
    """The content of a regular file.

    Args:
        path: the file.
        largest: the most bytes that it may hold; what its size is said to be plays no part.

    Raises:
        DataError: missing, unreadable, not a regular file, or larger; the message names the path.
    """
    try:
        with open_regular(path) as file:
            content = file.read(largest + 1)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    if len(content) > largest:
        raise DataError(f"{path}: larger than {largest >> 20} MiB, which is more than it can need")
    return content
