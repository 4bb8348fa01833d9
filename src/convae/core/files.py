"""Files that are either the old ones or the new ones, never half of each.

A file or folder is written beside its place, synced to the disk, and renamed. A process that dies at any moment
leaves what was there before, and at most a temporary name beginning with a dot that the next writer removes.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from convae.core.errors import OutputError


def _sync(path: Path) -> None:
    """Flushes a file's or a folder's content to the disk."""
    flags = os.O_RDONLY | (os.O_DIRECTORY if path.is_dir() and hasattr(os, "O_DIRECTORY") else 0)
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
    """Writes a file atomically: readers see the old content or the new, never a part; its folder is made."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file atomically, indented, keys in their own order."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that takes the place of `path`, whole, when the block ends without an error.

    What was at `path` is set aside first and removed last, so a crash between the two renames leaves it under the
    name that `settled` looks for.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    aside = path.with_name(f".{path.name}.old")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            yield temporary
            for inner in [*temporary.rglob("*"), temporary]:
                _sync(inner)
            settled(path)
            if path.exists():
                shutil.rmtree(aside, ignore_errors=True)
                path.rename(aside)
            temporary.rename(path)
            _sync(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(aside, ignore_errors=True)


def settled(path: Path) -> Path:
    """`path`, after putting back what a crash inside `new_folder` may have left set aside."""
    aside = path.with_name(f".{path.name}.old")
    if not path.exists() and aside.is_dir():
        with writing(path):
            aside.rename(path)
    return path
