"""Files that are either the old ones or the new ones, never half of each.

A file or folder is written beside its place, synced to the disk, and renamed; then the folder that holds it is synced,
too, so that neither a killed process nor a power failure takes the new one back after it was used. A process that dies
at any moment leaves what was there before, and at most temporary names beginning with a dot, which
`remove_temporary_files` removes.
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
    """A regular file opened for reading; a pipe or a device, which may block or never end, is refused.

    Raises:
        OSError: missing, unreadable, or not a regular file.
    """
    # Without O_NONBLOCK, opening a pipe waits for somebody who writes to it.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    with open(os.open(path, flags), "rb") as file:  # noqa: PTH123  # a descriptor has no path
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or device"
            raise OSError(errno.EINVAL, f"{kind}, not a regular file", str(path))
        yield file


def read_bytes(path: Path, largest: int) -> bytes:
    """The content of a regular file of at most `largest` bytes; never more than one byte beyond that is read.

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
    """Inside the block, a path of a regular file for libraries that take none but UTF-8.

    Raises:
        OSError: missing, unreadable, or not a regular file.
    """
    with open_regular(path) as file:
        is_utf8 = os.fsencode(path).decode(errors="replace").encode() == os.fsencode(path)
        yield str(path) if is_utf8 else f"/dev/fd/{file.fileno()}"


def sync(path: Path) -> None:
    """Flushes a file's or a folder's content to the disk; a folder's only where the system can."""
    folder = path.is_dir()
    if folder and not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(path, os.O_RDONLY | (os.O_DIRECTORY if folder else 0))
    try:
        os.fsync(descriptor)
    except OSError as error:
        # How file systems say that they sync no folders.
        if not folder or error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)


def temporary_path(path: Path) -> Path:
    """The name beside `path` under which this process writes what will take its place."""
    return path.with_name(f".{path.name}.{os.getpid()}{_TEMPORARY}")


def clear_leftovers(path: Path) -> None:
    """Removes what processes that died in the middle of writing `path` left; only while no other one writes it."""
    for left in path.parent.iterdir():
        if is_temporary(left) and left.name.startswith(f".{path.name}."):
            _remove(left)


def is_temporary(path: Path) -> bool:
    """Whether a file or folder has a name that `temporary_path` gives, of any process."""
    return path.name.startswith(".") and path.name.endswith(_TEMPORARY)


@contextlib.contextmanager
def writing_errors(path: Path) -> Iterator[None]:
    """Turns an operating-system error while writing `path` into one sentence.

    Raises:
        OutputError: no permission, no space, not a folder, and their like.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from error


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file atomically: readers see the old content or the new, never a part; its folder is made.

    In the block of a `new_folder` it is written plainly, since all of that folder appears at once.
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
    r"""UTF-8, in which bytes of a file name that are no UTF-8 stand as JSON escapes such as `\udce9`.

    A file name is bytes; Python holds those that are no UTF-8 as lone surrogates, which UTF-8 cannot hold. Inside JSON
    the escape is read back as the same name, and `os.fsencode` then gives the bytes again.
    """
    return text.encode("utf-8", "backslashreplace")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file that takes the place of `path`, whole, when the block ends without an error.

    For content that is too large for `write_bytes`.
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
    """Writes a text file atomically, as `encode_text` has it."""
    write_bytes(path, encode_text(text))


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file atomically, indented, keys in their own order."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def append(path: Path, text: str) -> None:
    """Adds to the end of a text file; of a process that dies meanwhile a part may stay, which `truncate` removes."""
    with writing_errors(path), _open_own(path) as file:
        file.write(encode_text(text))


def truncate(path: Path, size: int) -> None:
    """Shortens a file to `size` bytes; makes it, where there is none."""
    with writing_errors(path), _open_own(path) as file:
        file.truncate(size)


def _open_own(path: Path) -> BinaryIO:
    """A file opened for appending, never through a link: it may lead to a file that convae did not make."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    try:
        return open(os.open(path, flags | getattr(os, "O_CLOEXEC", 0), 0o666), "ab")  # noqa: PTH123  # a descriptor has no path
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "is a link: put the file itself there") from error
        raise


@contextlib.contextmanager
def new_folder(
    path: Path, owned: Collection[str] | None = None, mark: tuple[str, bytes] | None = None
) -> Iterator[Path]:
    """A temporary folder that takes the place of `path`, whole, when the block ends without an error.

    Where the kernel can exchange two folders, there is a whole one at `path` at every moment. Elsewhere the old one is
    set aside first and removed last, so a crash between the two renames leaves it under the name that
    `recover_folder` looks for.

    Args:
        path: where it goes; a link to a folder is followed.
        owned: names of the files that such a folder has. One that holds anything else was not made by convae, or holds
            more than convae put there, and is left alone. None for a folder inside one that is convae's.
        mark: one of these files, and bytes that it holds when convae wrote it.

    Raises:
        OutputError: the folder cannot be written, or what is there is not convae's to replace.
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
            elif not _exchanged(place, path):
                _remove(aside)
                path.rename(aside)
                place.rename(path)
            sync(path.parent)
            _remove(aside)
        finally:
            _remove(place)


_CLUTTER = {".DS_Store", "Thumbs.db", "desktop.ini"}
"""What file managers leave in any folder that is looked at."""


def check_replaceable(path: Path, owned: Collection[str] | None, mark: tuple[str, bytes] | None) -> Path:
    """Where a folder of convae's may be written: `path` without links, once it is sure that nothing else is lost there.

    Raises:
        OutputError: there is a file, the working directory, or a folder with something that convae did not write.
    """
    with writing_errors(path):
        path = path.resolve() if path.is_symlink() or path.name in ("", "..") else path
        if path.exists() and not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if owned is None or not path.is_dir():
            return path
        if Path.cwd().is_relative_to(path.resolve()):
            raise OutputError(f"{path}: is the working directory or holds it; choose a folder inside it")
        found = {entry.name for entry in path.iterdir()} - _CLUTTER
        if foreign := sorted(found - set(owned)):
            raise OutputError(f"{path}: holds '{foreign[0]}', which convae did not write; choose another folder")
        if found and mark is not None:
            name, content = mark
            head = read_head(path / name) if name in found else b""
            if content not in head:
                raise OutputError(f"{path}: holds files that convae did not write; choose another folder")
    return path


def read_head(path: Path, largest: int = 1 << 16) -> bytes:
    """The beginning of a regular file; nothing of one that cannot be read."""
    with contextlib.suppress(OSError), open_regular(path) as file:
        return file.read(largest)
    return b""


def recover_folder(path: Path) -> Path:
    """`path`, after putting back what a crash inside `new_folder` may have left set aside."""
    if not path.exists() and (aside := path.with_name(f".{path.name}{_ASIDE}")).is_dir():
        with writing_errors(path):
            aside.rename(path)
    return path


def remove_temporary_files(folder: Path) -> None:
    """Removes what processes that died in the middle of writing left in a folder, and puts back what they set aside.

    Only for a folder that no other process is writing to.
    """
    for aside in folder.glob(f".*{_ASIDE}"):
        recover_folder(aside.with_name(aside.name.removeprefix(".").removesuffix(_ASIDE)))
        _remove(aside)
    for left in filter(is_temporary, folder.iterdir() if folder.is_dir() else ()):
        _remove(left)


def _remove(path: Path) -> None:
    """Removes a file or a folder, as far as that goes: what is left over does no harm."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _exchanged(one: Path, other: Path) -> bool:
    """Exchanges two folders in one step, where kernel and file system can (Linux's `renameat2`)."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if sys.platform == "linux" else None
    return rename is not None and rename(_AT_FDCWD, bytes(one), _AT_FDCWD, bytes(other), _RENAME_EXCHANGE) == 0
