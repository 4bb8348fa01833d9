"""What the data that an artifact names may be without a word of the person who opens it."""

from __future__ import annotations

import json
import shlex
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convae.core.arguments import split_name
from convae.core.errors import ConfigError
from convae.core.names import escape_controls
from convae.core.trust import untrusted_names
from convae.data.sources import SOURCES

_REMOTE = {"hugging-face"}
"""Data sets that whoever describes them chooses on the network."""


def require_permission(data: Mapping[str, Any]) -> dict[str, Any]:
    """The data that an artifact names, if it is a data set that convae knows; it is looked for where data sets lie.

    An artifact may come from anybody: nothing is downloaded, and no path is read, because of what stands in it.

    Args:
        data: the configuration of the data in the artifact.

    Raises:
        ConfigError: the source is a path, or a data set somewhere on the network.
        TrustError: it is code of a package that is not trusted.
    """
    given: Any = data.get("source")
    is_mapping = isinstance(given, dict) and all(isinstance(value, dict | None) for value in given.values())
    if not isinstance(given, str) and not is_mapping:
        raise ConfigError("the model does not say what it was trained on: give --data")
    name, options = split_name(given, "the artifact's data.source")
    with untrusted_names():
        is_allowed = name in SOURCES and name not in _REMOTE and not _has_path(SOURCES.get(name), options)
    if not is_allowed:
        # JSON, which --data reads, whole and quoted for a shell.
        text = given if isinstance(given, str) else json.dumps(given)
        raise ConfigError(
            f"an artifact cannot open its training data {escape_controls(text)} by itself: "
            f"give --data, such as --data {escape_controls(shlex.quote(text))} for the same"
        )
    return {**data, "dir": None, "download": False}


def _has_path(source: Any, options: Mapping[str, Any]) -> bool:
    """Whether one of a source's options is a path."""
    hints = typing.get_type_hints(source.__init__)
    return any(Path in (hints.get(name), *typing.get_args(hints.get(name))) for name in options)
