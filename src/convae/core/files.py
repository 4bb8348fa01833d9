"""Atomic writing of files and folders: readers see the old content or the new.

A file or folder is written under a temporary name, synced to the disk and renamed; then its parent folder is synced, so
that neither a killed process nor a power failure reverts it. A process that dies at any moment leaves the old content
and at most temporary names that begin with a dot, which `remove_temporary_files` removes.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from convae.core.errors import OutputError

TEMPORARY, ASIDE = ".tmp", ".old"
"""Suffixes of the names of temporary files, and of folders that are being replaced."""


@contextlib.contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """Opens a regular file for reading; a pipe or a device, which may block or never end, is refused.

    Raises:
        OSError: missing, unreadable, or not a regular file.
    """
    # Without O_NONBLOCK, opening a pipe blocks until a process writes to it.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    with open(os.open(path, flags), "rb") as file:  # noqa: PTH123  # a descriptor has no path
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or device"
            raise OSError(errno.EINVAL, f"{kind}, not a regular file", str(path))
        yield file


def read_bytes(path: Path, largest: int) -> bytes:
    """Reads a regular file of at most `largest` bytes; never reads more than one byte beyond that.

    Raises:
        OSError: missing, unreadable, not a regular file, or larger.
    """
    with open_regular(path) as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        size = f"{largest >> 20} MiB" if largest >= 1 << 20 else f"{largest:,} bytes"
        raise OSError(errno.EFBIG, f"larger than {size}", str(path))
    return content


@contextlib.contextmanager
def utf8_path(path: Path) -> Iterator[str]:
    """A path to a regular file for libraries that accept UTF-8 paths only, valid inside the block.

    Raises:
        OSError: missing, unreadable, or not a regular file.
    """
    with open_regular(path) as file:
        is_utf8 = os.fsencode(path).decode(errors="replace").encode() == os.fsencode(path)
        yield str(path) if is_utf8 else f"/dev/fd/{file.fileno()}"


def sync(path: Path) -> None:
    """Flushes a file or, where the system supports it, a folder to the disk."""
    folder = path.is_dir()
    if folder and not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(path, os.O_RDONLY | (os.O_DIRECTORY if folder else 0))
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Error numbers of file systems that do not sync folders.
        if not folder or error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)


def temporary_path(path: Path) -> Path:
    """The temporary name next to `path` under which this process writes."""
    return path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")


def clear_leftovers(path: Path) -> None:
    """Removes temporary files that killed processes left for `path`; only while no other process writes it."""
    for left in path.parent.iterdir():
        if is_temporary(left) and left.name.startswith(f".{path.name}."):
            remove(left)


def is_temporary(path: Path) -> bool:
    """Whether a file or folder has a temporary name of any process."""
    return path.name.startswith(".") and path.name.endswith(TEMPORARY)


@contextlib.contextmanager
def writing_errors(path: Path) -> Iterator[None]:
    """Converts operating-system errors while writing `path` to `OutputError`.

    Raises:
        OutputError: no permission, no space, not a folder, and so on.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from error


def require_free(path: Path, *, force: bool) -> None:
    """Checks that a file or folder may be written.

    Raises:
        OutputError: it exists and `force` is not set.
    """
    if path.exists() and not force:
        raise OutputError(f"{path}: already exists. Choose another place, or use --force to replace it")


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file atomically; its folder is created if missing.

    Inside `new_folder` it is written directly, since the folder appears atomically.
    """
    place = temporary_path(path)
    with writing_errors(path):
        if is_temporary(path.parent):
            path.write_bytes(content)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with place.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            place.replace(path)
            sync(path.parent)
        finally:
            remove(place)


def encode_text(text: str) -> bytes:
    r"""Encodes text as UTF-8; bytes of file names that are not UTF-8 become JSON escapes such as `\udce9`.

    Python represents such bytes as lone surrogates, which UTF-8 cannot encode. JSON reads the escape back as the same
    name, and `os.fsencode` returns the original bytes.
    """
    return text.encode("utf-8", "backslashreplace")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file that replaces `path` atomically when the block ends without an error.

    For content that does not fit into memory.
    """
    place = temporary_path(path)
    with writing_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield place
            sync(place)
            place.replace(path)
            sync(path.parent)
        finally:
            remove(place)


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically, encoded by `encode_text`."""
    write_bytes(path, encode_text(text))


def write_json(path: Path, value: Any) -> None:
    """Writes an indented JSON file atomically, with keys in their order."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def append(path: Path, text: str) -> None:
    """Appends to a text file. A process that dies meanwhile may leave a partial line, which `truncate` removes."""
    with writing_errors(path), _open_own(path) as file:
        file.write(encode_text(text))


def truncate(path: Path, size: int) -> None:
    """Shortens a file to `size` bytes; creates it if missing."""
    with writing_errors(path), _open_own(path) as file:
        file.truncate(size)


def _open_own(path: Path) -> BinaryIO:
    """Opens a file for appending. Links are refused, as they may lead to a file that convae did not create."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    try:
        return open(os.open(path, flags | getattr(os, "O_CLOEXEC", 0), 0o666), "ab")  # noqa: PTH123  # a descriptor has no path
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "is a link. Replace it by the file itself") from error
        raise


def read_head(path: Path, largest: int = 1 << 16) -> bytes:
    """The first bytes of a regular file; empty if it cannot be read."""
    with contextlib.suppress(OSError), open_regular(path) as file:
        return file.read(largest)
    return b""


def remove(path: Path) -> None:
    """Removes a file or a folder; errors are ignored."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
