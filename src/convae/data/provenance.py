"""Whether data is what a model was trained on, and what other data of the same kind takes over from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from convae.core.arguments import Named, arguments
from convae.core.errors import ConvaeError
from convae.data.image_files import ImageFiles
from convae.data.sources import SOURCES, resolve_source


def is_same_source(first: Named, second: Named) -> bool:
    """Whether two descriptions name one data set: the same source, paths and options, however they are written."""
    try:
        return _written_out(first) == _written_out(second)
    except ConvaeError:  # such as a folder that is gone
        return False


def with_reading_options(given: Named, trained: Named) -> tuple[Named, dict[str, Any]]:
    """A source with the options that say how values are read, such as `range`, as the training data has them.

    Args:
        given: the source; options that it states itself stay.
        trained: the source of the training data.

    Returns:
        The source, and the options that it was given here: none where the sources are of different kinds.
    """
    try:
        name, options = resolve_source(given)
        trained_name, trained_options = resolve_source(trained)
        own, other = SOURCES.get(name), SOURCES.get(trained_name)
    except ConvaeError:
        return given, {}
    if own is not other and not (issubclass(own, ImageFiles) and issubclass(other, ImageFiles)):
        return given, {}
    taken = {
        key: value
        for key, value in trained_options.items()
        if key in own.reading_options and key not in options and value is not None
    }
    return ({name: {**options, **taken}}, taken) if taken else (given, {})


def _written_out(given: Named) -> tuple[str, dict[str, Any]]:
    """The source's name and all its options, with absolute paths."""
    name, options = resolve_source(given)
    full = arguments(SOURCES.get(name), options, f"data.source ({name})")
    return name, {key: _absolute(value) for key, value in full.items()}


def _absolute(value: Any) -> Any:
    if isinstance(value, Path):
        return value.resolve()
    return [_absolute(item) for item in value] if isinstance(value, list) else value
