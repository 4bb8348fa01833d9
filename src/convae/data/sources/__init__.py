"""Data sources, one per file. A source lists its images and reads them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convae.core.arguments import Named, parse_arguments, split_name
from convae.core.errors import ConfigError, DataError
from convae.core.names import nearest_name, shape_text, unknown_message
from convae.core.paths import absolute_path, local_path, with_absolute_paths
from convae.core.registry import Registry
from convae.data.data_dirs import DataDirs
from convae.data.io.patterns import is_pattern
from convae.data.sources.base import Source

SOURCES = Registry("convae.data.sources", "data set", "Source")
GIVEN = "given"
"""The source in recipes whose data was passed as objects."""
_SUFFIXES = {
    ".npy": "arrays",
    ".npz": "arrays",
    ".csv": "manifest",
    ".tsv": "manifest",
    ".jsonl": "manifest",
    ".tar": "tar",
}


def open_source(given: Named, data_dirs: DataDirs) -> Source:
    """Opens a source: `mnist`, `{folder: {path: photos}}`, or the path of a folder or file.

    Raises:
        DataError: neither the name of a data set nor an existing path.
        ConfigError: invalid arguments.
    """
    name, options = resolve_source(given)
    if name == GIVEN:
        raise given_error(options)
    target = SOURCES.get(name)
    source: Source = target(data_dirs, **parse_arguments(target, options, f"data.source ({name})"))
    return source


def given_error(options: Mapping[str, Any]) -> ConfigError:
    """The error where images that were passed as objects would have to be opened."""
    count, shape = options.get("images", "some"), options.get("shape") or ()
    return ConfigError(
        f"data.source: the {count} images {shape_text(shape)} were passed as objects. Pass them again in Python as "
        "data=, to convae.Session, convae.train or convae.resume, or name other data"
    )


def resolve_source(given: Named) -> tuple[str, dict[str, Any]]:
    """The registered name and the options of a source as written.

    Raises:
        DataError: neither the name of a data set nor an existing path.
        ConfigError: not a name or a name with options.
    """
    name, options = split_name(given, "data.source")
    return _by_path(name) if name not in SOURCES and not options else (name, options)


def absolute_source(given: Any, folder: Path | None = None) -> Any:
    """A source with absolute paths; the name of a data set is unchanged.

    Args:
        given: the source.
        folder: base of relative paths; by default the working directory.

    Raises:
        ConfigError: an invalid path.
    """
    given = os.fspath(given) if isinstance(given, os.PathLike) else given
    try:
        name, options = split_name(given, "data.source")
    except ConfigError:
        return given  # invalid; the validation of the configuration reports it
    if name in SOURCES:
        return {name: with_absolute_paths(SOURCES.get(name), options, folder)} if options else given
    if options or not name:
        return given
    try:
        return str(absolute_path(name, folder))
    except ConfigError as error:
        raise ConfigError(f"data.source: {error}") from error


def _by_path(text: str) -> tuple[str, dict[str, Any]]:
    """The source for a path: a folder, or a file by its suffix."""
    path = local_path(text)
    if path.is_dir():
        return "folder", {"path": text}
    name = _SUFFIXES.get(path.suffix.lower())
    if name is not None and (path.exists() or (name == "tar" and is_pattern(path))):
        return name, {"path": text}
    if is_pattern(path):
        raise DataError(f"{path}: only tar archives can be named by a pattern. Give a folder or a file")
    if path.exists():
        raise DataError(
            f"{path}: unsupported file. data.source must be the name of a data set, a folder of images, or a file"
            f" ({', '.join(_SUFFIXES)})"
        )
    if path.name == text:  # the name of a data set
        raise DataError(unknown_message("file, folder or data set", text, SOURCES.names()))
    siblings = [sibling.name for sibling in path.parent.iterdir()] if path.parent.is_dir() else []
    near = nearest_name(path.name, siblings)
    guess = "" if near is None else f". Did you mean '{path.parent / near}'?"
    raise DataError(f"{path}: no such file or folder{guess}")


__all__ = ["GIVEN", "SOURCES", "absolute_source", "open_source", "resolve_source"]
