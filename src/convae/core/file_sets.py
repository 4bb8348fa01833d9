"""Sets of files that a command writes into a folder; a later call replaces exactly these files."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from convae.core.files import read_bytes, require_free, write_json, writing_errors

LIST = ".convae-files.json"
"""Name of the file that lists the set in a folder."""
_LARGEST = 1 << 30


def begin_file_set(folder: Path, names: Sequence[str], *, force: bool) -> list[Path]:
    """Prepares a folder for a set of files, and returns their paths; `force` removes those of an earlier set.

    Args:
        folder: created if missing.
        names: of the files, relative to the folder.
        force: whether existing files may be replaced.

    Raises:
        OutputError: files exist and `force` is not set, or the folder cannot be written.
    """
    earlier = _listed(folder)
    for name in (*names, *earlier):
        require_free(folder / name, force=force)
    with writing_errors(folder):
        _remove_files(folder, set(earlier) - set(names))
    # Written before the first file, so that it covers the files of a killed process.
    write_json(folder / LIST, list(names))
    return [folder / name for name in names]


def _listed(folder: Path) -> list[str]:
    """The files of the set in a folder; empty if the list names paths outside of it."""
    try:
        found = json.loads(read_bytes(folder / LIST, _LARGEST))
    except (OSError, ValueError):
        return []
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        return []
    pure = map(PurePosixPath, found)
    return [str(path) for path in pure if path.name and not path.is_absolute() and ".." not in path.parts]


def _remove_files(folder: Path, names: Iterable[str]) -> None:
    """Removes files, and folders inside `folder` that become empty; never follows links."""
    parents: set[Path] = set()
    for name in names:
        path = folder / name
        above = [parent for parent in path.parents if parent != folder and parent.is_relative_to(folder)]
        if any(parent.is_symlink() for parent in above):
            continue
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()
        parents.update(above)
    for parent in sorted(parents, key=lambda path: len(path.parts), reverse=True):
        with contextlib.suppress(OSError):
            parent.rmdir()
