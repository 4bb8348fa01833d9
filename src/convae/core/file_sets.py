"""Sets of files that a command writes into a folder, so that a later call replaces all of them and nothing else."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from convae.core.errors import OutputError
from convae.core.files import read_bytes, write_json, writing_errors

LIST = ".convae-files.json"
"""The names of the files of the set in a folder."""
_LARGEST = 1 << 30


def begin_file_set(folder: Path, names: Sequence[str], *, force: bool) -> list[Path]:
    """The paths of files that will be written into `folder`; with `force`, those of an earlier set are removed.

    Args:
        folder: made where there is none.
        names: of the files, relative to the folder.
        force: whether files that are there may be replaced.

    Raises:
        OutputError: files are there and `force` is not set, or the folder cannot be written.
    """
    earlier = _listed(folder)
    there = next((name for name in [*names, *earlier] if (folder / name).exists()), None)
    if there is not None and not force:
        raise OutputError(f"{folder / there}: is there already; choose another --out, or --force to replace it")
    with writing_errors(folder):
        _remove_files(folder, set(earlier) - set(names))
    # Before the first file: what a killed process leaves is known, too.
    write_json(folder / LIST, list(names))
    return [folder / name for name in names]


def _listed(folder: Path) -> list[str]:
    """The files of the set that is in a folder; a list that leads out of it is not ours."""
    try:
        found = json.loads(read_bytes(folder / LIST, _LARGEST))
    except (OSError, ValueError):
        return []
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        return []
    pure = map(PurePosixPath, found)
    return [str(path) for path in pure if path.name and not path.is_absolute() and ".." not in path.parts]


def _remove_files(folder: Path, names: Iterable[str]) -> None:
    """Removes files, and the folders inside `folder` that are empty after it; never through a link."""
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
