"""Atomic writing of folders, and their recovery after a crash; see `convae.core.files`."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

from convae.core.errors import OutputError
from convae.core.files import ASIDE, is_temporary, read_head, remove, sync, temporary_path, writing_errors

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_CLUTTER = {".DS_Store", "Thumbs.db", "desktop.ini"}
"""Files that file managers create in any folder."""


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
        remove(place)
        place.mkdir()
        try:
            yield place
            for inner in [*place.rglob("*"), place]:
                sync(inner)
            aside = path.with_name(f".{path.name}{ASIDE}")
            if not recover_folder(path).exists():
                place.rename(path)
            elif not exchange(place, path):
                remove(aside)
                path.rename(aside)
                place.rename(path)
            sync(path.parent)
            remove(aside)
        finally:
            remove(place)


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


def recover_folder(path: Path) -> Path:
    """Restores the old folder if a crash inside `new_folder` left it renamed; returns `path`."""
    if not path.exists() and (aside := path.with_name(f".{path.name}{ASIDE}")).is_dir():
        with writing_errors(path):
            aside.rename(path)
    return path


def remove_temporary_files(folder: Path) -> None:
    """Removes temporary files of killed processes from a folder, and restores folders that they renamed.

    Call it only while no other process writes to the folder.
    """
    for aside in folder.glob(f".*{ASIDE}"):
        recover_folder(aside.with_name(aside.name.removeprefix(".").removesuffix(ASIDE)))
        remove(aside)
    for left in filter(is_temporary, folder.iterdir() if folder.is_dir() else ()):
        remove(left)


def exchange(one: Path, other: Path) -> bool:
    """Exchanges two folders atomically where kernel and file system support it (`renameat2` of Linux)."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if sys.platform == "linux" else None
    return rename is not None and rename(_AT_FDCWD, bytes(one), _AT_FDCWD, bytes(other), _RENAME_EXCHANGE) == 0
