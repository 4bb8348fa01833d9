"""Files that are either the old ones or the new ones, never half of each.

A file or folder is written beside its place, synced to the disk, and renamed; then the folder that holds it is synced,
too, so that neither a killed process nor a power failure takes the new one back after it was used. A process that dies
at any moment leaves what was there before, and at most temporary names beginning with a dot, which `tidy` removes.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from convae.core.errors import OutputError

_TEMPORARY, _ASIDE = ".tmp", ".old"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


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


def temporary(path: Path) -> Path:
    """The name beside `path` under which this process writes what will take its place; `tidy` removes it."""
    return path.with_name(f".{path.name}.{os.getpid()}{_TEMPORARY}")


def clear(path: Path) -> None:
    """Removes what processes that died in the middle of writing `path` left; only while no other one writes it."""
    for left in path.parent.iterdir():
        if is_temporary(left) and left.name.startswith(f".{path.name}."):
            _remove(left)


def is_temporary(path: Path) -> bool:
    """Whether a file or folder has a name that `temporary` gives, of any process."""
    return path.name.startswith(".") and path.name.endswith(_TEMPORARY)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
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
    place = temporary(path)
    with writing(path):
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


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file atomically, indented, keys in their own order."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def append(path: Path, text: str) -> None:
    """Adds to the end of a UTF-8 text file; of a process that dies meanwhile a part may stay, which `cut` removes."""
    with writing(path), path.open("ab") as file:
        file.write(text.encode("utf-8"))


def cut(path: Path, size: int) -> None:
    """Shortens a file to `size` bytes; makes it, where there is none."""
    with writing(path), path.open("ab") as file:
        file.truncate(size)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that takes the place of `path`, whole, when the block ends without an error.

    Where the kernel can exchange two folders, there is a whole one at `path` at every moment. Elsewhere the old one is
    set aside first and removed last, so a crash between the two renames leaves it under the name that `settled` looks
    for.
    """
    place = temporary(path)
    with writing(path):
        if path.exists() and not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(place)
        place.mkdir()
        try:
            yield place
            for inner in [*place.rglob("*"), place]:
                sync(inner)
            aside = path.with_name(f".{path.name}{_ASIDE}")
            if not settled(path).exists():
                place.rename(path)
            elif not _exchanged(place, path):
                _remove(aside)
                path.rename(aside)
                place.rename(path)
            sync(path.parent)
            _remove(aside)
        finally:
            _remove(place)


def settled(path: Path) -> Path:
    """`path`, after putting back what a crash inside `new_folder` may have left set aside."""
    if not path.exists() and (aside := path.with_name(f".{path.name}{_ASIDE}")).is_dir():
        with writing(path):
            aside.rename(path)
    return path


def tidy(folder: Path) -> None:
    """Removes what processes that died in the middle of writing left in a folder, and puts back what they set aside.

    Only for a folder that no other process is writing to.
    """
    for aside in folder.glob(f".*{_ASIDE}"):
        settled(aside.with_name(aside.name.removeprefix(".").removesuffix(_ASIDE)))
        _remove(aside)
    for left in filter(is_temporary, folder.iterdir() if folder.is_dir() else ()):
        _remove(left)


def _remove(path: Path) -> None:
    """Removes a file or a folder, as far as that goes: what is left over does no harm."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _exchanged(one: Path, other: Path) -> bool:
    """Exchanges two folders in one step, where kernel and file system can (Linux's `renameat2`)."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if sys.platform == "linux" else None
    return rename is not None and rename(_AT_FDCWD, bytes(one), _AT_FDCWD, bytes(other), _RENAME_EXCHANGE) == 0
