"""Atomic writing of files and folders: readers see the old content or the new.

A file or folder is written under a temporary name, synced to the disk and renamed; then its parent folder is synced, so
that neither a killed process nor a power failure reverts it. A process that dies at any moment leaves the old content
and at most temporary names that begin with a dot, which `remove_temporary_files` removes.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import shutil
import stat
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from convae.core.errors import OutputError

_TEMPORARY, _ASIDE = ".tmp", ".old"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


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
    return path.with_name(f".{path.name}.{os.getpid()}{_TEMPORARY}")


def clear_leftovers(path: Path) -> None:
    """Removes temporary files that killed processes left for `path`; only while no other process writes it."""
    for left in path.parent.iterdir():
        if is_temporary(left) and left.name.startswith(f".{path.name}."):
            _remove(left)


def is_temporary(path: Path) -> bool:
    """Whether a file or folder has a temporary name of any process."""
    return path.name.startswith(".") and path.name.endswith(_TEMPORARY)


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
            _remove(place)


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
            _remove(place)


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


@contextlib.contextmanager
def new_folder(
    path: Path, owned: Collection[str] | None = None, mark: tuple[str, bytes] | None = None
) -> Iterator[Path]:
    """A temporary folder that replaces `path` when the block ends without an error.

    Where the kernel can exchange two folders, the replacement is atomic. Elsewhere the old folder is renamed first and
    removed last; after a crash between the two renames, `recover_folder` restores it.

    Args:
        path: destination; a link to a folder is followed.
        owned: file names of such a folder. A folder with other files is not replaced. None for a folder inside one that
            convae manages.
        mark: one of these files, and bytes that it contains if convae wrote it.

    Raises:
        OutputError: the folder cannot be written, or the existing one contains files that convae did not write.
    """
    path = check_replaceable(path, owned, mark)
    place = temporary_path(path)
    with writing_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(place)
        place.mkdir()
        try:
            yield place
            for inner in [*place.rglob("*"), place]:
                sync(inner)
            aside = path.with_name(f".{path.name}{_ASIDE}")
            if not recover_folder(path).exists():
                place.rename(path)
            elif not exchange(place, path):
                _remove(aside)
                path.rename(aside)
                place.rename(path)
            sync(path.parent)
            _remove(aside)
        finally:
            _remove(place)


_CLUTTER = {".DS_Store", "Thumbs.db", "desktop.ini"}
"""Files that file managers create in any folder."""


def check_replaceable(path: Path, owned: Collection[str] | None, mark: tuple[str, bytes] | None) -> Path:
    """Checks that a folder may be replaced without losing foreign files; returns `path` with links resolved.

    Raises:
        OutputError: `path` is a file, contains the working directory, or contains files that convae did not write.
    """
    with writing_errors(path):
        path = path.resolve() if path.is_symlink() or path.name in ("", "..") else path
        if path.exists() and not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if owned is None or not path.is_dir():
            return path
        if Path.cwd().is_relative_to(path.resolve()):
            raise OutputError(f"{path}: is or contains the working directory. Choose a folder inside it")
        found = {entry.name for entry in path.iterdir()} - _CLUTTER
        if foreign := sorted(found - set(owned)):
            raise OutputError(f"{path}: contains '{foreign[0]}', which convae did not write. Choose another folder")
        if found and mark is not None:
            name, content = mark
            head = read_head(path / name) if name in found else b""
            if content not in head:
                raise OutputError(f"{path}: contains files that convae did not write. Choose another folder")
    return path


def read_head(path: Path, largest: int = 1 << 16) -> bytes:
    """The first bytes of a regular file; empty if it cannot be read."""
    with contextlib.suppress(OSError), open_regular(path) as file:
        return file.read(largest)
    return b""


def recover_folder(path: Path) -> Path:
    """Restores the old folder if a crash inside `new_folder` left it renamed; returns `path`."""
    if not path.exists() and (aside := path.with_name(f".{path.name}{_ASIDE}")).is_dir():
        with writing_errors(path):
            aside.rename(path)
    return path


def remove_temporary_files(folder: Path) -> None:
    """Removes temporary files of killed processes from a folder, and restores folders that they renamed.

    Call it only while no other process writes to the folder.
    """
    for aside in folder.glob(f".*{_ASIDE}"):
        recover_folder(aside.with_name(aside.name.removeprefix(".").removesuffix(_ASIDE)))
        _remove(aside)
    for left in filter(is_temporary, folder.iterdir() if folder.is_dir() else ()):
        _remove(left)


def _remove(path: Path) -> None:
    """Removes a file or a folder; errors are ignored."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def exchange(one: Path, other: Path) -> bool:
    """Exchanges two folders atomically where kernel and file system support it (`renameat2` of Linux)."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if sys.platform == "linux" else None
    return rename is not None and rename(_AT_FDCWD, bytes(one), _AT_FDCWD, bytes(other), _RENAME_EXCHANGE) == 0
