"""Comparison of data with the training data of a model, and reading other data in the same way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from convae.core.arguments import Named, parse_arguments
from convae.core.errors import ConvaeError, DataError
from convae.core.trust import untrusted_names
from convae.data.data_dirs import DataDirs
from convae.data.images import preprocess
from convae.data.pixels import Pixels, ResizeMode
from convae.data.ranges import raw_values, spread
from convae.data.sources import SOURCES, open_source, resolve_source
from convae.data.sources.base.image_files import ImageFiles


def is_same_source(given: Named, trained: Named) -> bool:
    """Whether two descriptions name the same data set: equal source, paths and options.

    Args:
        given: written by the user.
        trained: recorded in a saved model; its code is used only if it is trusted.
    """
    try:
        own = _written_out(given)
        with untrusted_names():
            return own == _written_out(trained)
    except ConvaeError:  # such as a removed folder
        return False


def with_reading_options(given: Named, trained: Named) -> tuple[Named, dict[str, Any]]:
    """Adds the reading options of the training data, such as `range`, to a source.

    Args:
        given: the source; its own options take precedence.
        trained: the source of the training data.

    Returns:
        The source, and the added options, which are empty for sources of different kinds.
    """
    try:
        name, options = resolve_source(given)
        own = SOURCES.get(name)
        with untrusted_names():
            trained_name, trained_options = resolve_source(trained)
            other = SOURCES.get(trained_name)
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


def read_like(
    path: Path, trained: Named | None, size: Sequence[int], *, channels: int, resize_mode: ResizeMode
) -> Pixels:
    """Reads an image file with the options of the training data, and resizes it: (*size, channels).

    Args:
        path: path of the file.
        trained: source of the training data, if known.
        size: spatial sizes, height first.
        channels: number of channels.
        resize_mode: resizing to another aspect ratio.

    Raises:
        DataError: the file is not a readable image, or cannot be resized.
    """
    given: Named = {"files": {"paths": [str(path)]}}
    if trained is not None:
        given, _ = with_reading_options(given, trained)
    source = open_source(given, DataDirs())
    try:
        source.listing()
        kind = source.survey(sizes=False).kind
        record = source.record(0, tuple(size))
        bits = None if record.header is None else record.header.bits
        values = spread(raw_values(record.pixels), bits, source.value_range, kind)
        return preprocess(values, size, channels=channels, resize_mode=resize_mode, kind=kind)
    except DataError as error:
        raise DataError(str(error) if str(path) in str(error) else f"{path}: {error}") from error


def _written_out(given: Named) -> tuple[str, dict[str, Any]]:
    """Name and all options of a source, with absolute paths."""
    name, options = resolve_source(given)
    full = parse_arguments(SOURCES.get(name), options, f"data.source ({name})")
    return name, {key: _absolute(value) for key, value in full.items()}


def _absolute(value: Any) -> Any:
    if isinstance(value, Path):
        return value.resolve()
    return [_absolute(item) for item in value] if isinstance(value, list) else value
