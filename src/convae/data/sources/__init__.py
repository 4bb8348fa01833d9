"""Data sets, one a file. A source lists its images and reads them; everything else happens once, elsewhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from convae.core.arguments import Named, parse_arguments, split_name
from convae.core.errors import ConfigError, DataError
from convae.core.names import nearest_name, shape_text, unknown_message
from convae.core.paths import absolute_path, local_path, with_absolute_paths
from convae.core.registry import Registry
from convae.data.data_dirs import DataDirs
from convae.data.sources.base import Source

SOURCES = Registry("convae.data.sources", "data set", "Source")
GIVEN = "given"
"""The source that a recipe names when its data were objects of a program."""
_SUFFIXES = {".npy": "arrays", ".npz": "arrays", ".csv": "manifest", ".tsv": "manifest", ".jsonl": "manifest"}


def open_source(given: Named, data_dirs: DataDirs) -> Source:
    """The source that a person named: `mnist`, `{folder: {path: photos}}`, or just the path of a folder or file.

    Raises:
        DataError: neither a data set's name nor a folder.
        ConfigError: wrong arguments.
    """
    name, options = resolve_source(given)
    if name == GIVEN:
        count, shape = options.get("images", "some"), options.get("shape") or ()
        raise ConfigError(
            f"data.source: the data were {count} images of {shape_text(shape)} that a program held: give them again, "
            "as convae.resume(run, data=...), or give other data"
        )
    target = SOURCES.get(name)
    source: Source = target(data_dirs, **parse_arguments(target, options, f"data.source ({name})"))
    return source


def resolve_source(given: Named) -> tuple[str, dict[str, Any]]:
    """The registered name of a source that a person named, and the options that they gave it.

    Raises:
        DataError: neither a data set's name nor a folder or file.
        ConfigError: not a name, or a name with its options.
    """
    name, options = split_name(given, "data.source")
    return _by_path(name) if name not in SOURCES and not options else (name, options)


def absolute_source(given: Any, folder: Path | None = None) -> Any:
    """A source as a person writes it, with absolute paths in place of relative ones; a data set's name stays.

    Args:
        given: the source.
        folder: what relative paths are relative to; by default the working directory.

    Raises:
        ConfigError: a path that cannot be one of this machine.
    """
    given = os.fspath(given) if isinstance(given, os.PathLike) else given
    try:
        name, options = split_name(given, "data.source")
    except ConfigError:
        return given  # which whoever reads the rest of the configuration refuses
    if name in SOURCES:
        return {name: with_absolute_paths(SOURCES.get(name), options, folder)} if options else given
    if options or not name:
        return given
    try:
        return str(absolute_path(name, folder))
    except ConfigError as error:
        raise ConfigError(f"data.source: {error}") from error


def _by_path(text: str) -> tuple[str, dict[str, Any]]:
    """The source that reads what lies at a path: a folder, or a file by its suffix."""
    path = local_path(text)
    if path.is_dir():
        return "folder", {"path": text}
    if path.suffix.lower() in _SUFFIXES and path.exists():
        return _SUFFIXES[path.suffix.lower()], {"path": text}
    if path.exists():
        raise DataError(
            f"{path}: is a file, but data.source needs a data set's name, a folder of images, or a file"
            f" ({', '.join(_SUFFIXES)})"
        )
    if path.name == text:  # no path, so a data set's name is meant
        raise DataError(
            f"{unknown_message('data set', text, SOURCES.names())}; there is no file or folder of that name either"
        )
    siblings = [sibling.name for sibling in path.parent.iterdir()] if path.parent.is_dir() else []
    near = nearest_name(path.name, siblings)
    guess = "" if near is None else f"; did you mean '{path.parent / near}'?"
    raise DataError(f"{path}: there is no such file or folder{guess}")


__all__ = ["GIVEN", "SOURCES", "absolute_source", "open_source", "resolve_source"]
