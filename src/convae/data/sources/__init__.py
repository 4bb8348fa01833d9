"""Data sets, one a file. A source lists its images and reads them; everything else happens once, elsewhere."""

from __future__ import annotations

from pathlib import Path

from convae.core.arguments import Named, arguments, named
from convae.core.errors import DataError
from convae.core.names import unknown
from convae.core.registry import Registry
from convae.data.places import Places
from convae.data.sources.base import Source

SOURCES = Registry("convae.data.sources", "data set", "Source")


def open_source(given: Named, places: Places) -> Source:
    """The source that a person named: `mnist`, `{folder: {path: photos}}`, or just the path of a folder.

    Raises:
        DataError: neither a data set's name nor a folder.
        ConfigError: wrong arguments.
    """
    name, options = named(given, "data.source")
    if name not in SOURCES and not options:
        name, options = "folder", {"path": _folder(name)}
    target = SOURCES.get(name)
    source: Source = target(places, **arguments(target, options, f"data.source ({name})"))
    return source


def _folder(text: str) -> str:
    """`text`, if it is the path of a folder."""
    path = Path(text).expanduser()
    if path.is_dir():
        return text
    if path.exists():
        raise DataError(f"{path}: is a file, but data.source needs a data set's name or a folder of images")
    if path.name != text:
        raise DataError(f"{path}: there is no such folder of images")
    raise DataError(f"{unknown('data set', text, SOURCES.names())} (nor is it a folder of images)")
