"""Data that a saved model names: permission to open it, comparison with other data, and reading like it."""

from __future__ import annotations

import contextlib
import json
import shlex
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from convae.core.arguments import Named, parse_arguments, split_name
from convae.core.config import parse
from convae.core.documents import read_mapping
from convae.core.errors import ConfigError, ConvaeError, DataError
from convae.core.names import escape_controls
from convae.core.trust import untrusted_names
from convae.core.types import Batch, Shape
from convae.data.binarize import binarize
from convae.data.config import DataConfig
from convae.data.data_dirs import DataDirs
from convae.data.images.tensors import to_unit
from convae.data.sources import GIVEN, SOURCES, given_error, open_source, resolve_source
from convae.data.sources.base import content_digest
from convae.data.store.chunks import convert
from convae.data.store.store import ImageFormat

_REMOTE = {"hugging-face"}
"""Sources that open any data set on the network."""


def require_permission(data: Mapping[str, Any]) -> dict[str, Any]:
    """The data configuration of an artifact, if it names a data set of convae.

    An artifact may come from anyone, so it cannot cause a download or the reading of a path.

    Args:
        data: the data configuration in the artifact.

    Raises:
        ConfigError: the source is a path or a data set on the network, or was an object.
        TrustError: the source is code of a package that is not trusted.
    """
    given: Any = data.get("source")
    is_mapping = isinstance(given, dict) and all(isinstance(value, dict | None) for value in given.values())
    if not isinstance(given, str) and not is_mapping:
        raise ConfigError("the model does not record its training data. Pass --data")
    name, options = split_name(given, "the artifact's data.source")
    if name == GIVEN:
        raise given_error(options)
    with untrusted_names():
        is_allowed = name in SOURCES and name not in _REMOTE and not _has_path(SOURCES.get(name), options)
    if not is_allowed:
        # JSON, which --data accepts, quoted for a shell.
        text = given if isinstance(given, str) else json.dumps(given)
        raise ConfigError(
            f"an artifact may not open the data {escape_controls(text)} without your consent. "
            f"Pass --data {escape_controls(shlex.quote(text))}, or other data"
        )
    return {**data, "dir": None, "download": False}


def recorded_data_dir(run: Path) -> Path | None:
    """Where a run on this machine had its data sets: an artifact, which others are given, does not record that."""
    with contextlib.suppress(ConvaeError, LookupError, TypeError):
        folder = read_mapping(run / "recipe.yaml")["data"]["dir"]
        return Path(folder) if isinstance(folder, str) and Path(folder).is_dir() else None
    return None


def _has_path(source: Any, options: Mapping[str, Any]) -> bool:
    """Whether an option of a source is a path."""
    hints = typing.get_type_hints(source.__init__)
    return any(Path in (hints.get(name), *typing.get_args(hints.get(name))) for name in options)


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
    if own is not other and not (own.holds_image_files and other.holds_image_files):
        return given, {}
    taken = {
        key: value
        for key, value in trained_options.items()
        if key in own.reading_options and key not in options and value is not None
    }
    return ({name: {**options, **taken}}, taken) if taken else (given, {})


def like_training_data(trained: Mapping[str, Any], source: Named) -> tuple[dict[str, Any], dict[str, Any]]:
    """The configuration of other data for a model, read as its training data was.

    Args:
        trained: the data configuration in the model; empty if unknown.
        source: the other data.

    Returns:
        The configuration, and the reading options that the source takes over.
    """
    config, taken = {**trained, "source": source, "label": None}, dict[str, Any]()
    if isinstance(config.get("missing"), float):  # dropped from the training data only
        config["missing"] = None
    if "source" in trained:
        config["source"], taken = with_reading_options(source, trained["source"])
    return config, taken


def read_like(path: Path, trained: Mapping[str, Any], shape: Shape) -> Batch:
    """Reads an image file as the training images were read, as a batch of one.

    Args:
        path: path of the file.
        trained: the data configuration in a model; empty if unknown.
        shape: (channels, *sizes) of the images of the model.

    Raises:
        DataError: the file is not a readable image, or cannot be resized.
    """
    config, _ = like_training_data(trained, {"files": {"paths": [str(path)]}})
    config = {**config, "channels": shape[0], "size": shape[1:]}
    read = parse(DataConfig, {key: value for key, value in config.items() if key != "dir"}, "data")
    source, missing = open_source(read.source, DataDirs()), read.missing_values(stored=True)
    origin = None if missing is None else missing.origin
    try:
        source.listing()
        kind = source.survey(sizes=False).kind
        image_format = ImageFormat(shape[1:], shape[0], read.resize_mode, kind, origin, read.interpolation)
        record = source.record(0, shape[1:])
        stored = convert(record, source.value_range, image_format)
    except DataError as error:
        raise DataError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
    images, weights = to_unit(torch.from_numpy(np.moveaxis(stored, -1, 0)[None].copy())), None
    identity = np.frombuffer(record.identity or content_digest(record.pixels), np.uint8)[None]
    if missing is not None:
        images, weights = missing.apply(images, identity)
    if read.binarize is not None:
        images = binarize(images, read.binarize, identity, weights)
    return Batch(images, None, torch.zeros(1, dtype=torch.int64), weights=weights)


def _written_out(given: Named) -> tuple[str, dict[str, Any]]:
    """Name and all options of a source, with absolute paths."""
    name, options = resolve_source(given)
    full = parse_arguments(SOURCES.get(name), options, f"data.source ({name})")
    return name, {key: _absolute(value) for key, value in full.items()}


def _absolute(value: Any) -> Any:
    if isinstance(value, Path):
        return value.resolve()
    return [_absolute(item) for item in value] if isinstance(value, list) else value
