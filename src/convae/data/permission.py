"""Which data an artifact may open without the consent of the user."""

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
"""Sources that open any data set on the network."""


def require_permission(data: Mapping[str, Any]) -> dict[str, Any]:
    """The data configuration of an artifact, if it names a data set of convae.

    An artifact may come from anyone, so it cannot cause a download or the reading of a path.

    Args:
        data: the data configuration in the artifact.

    Raises:
        ConfigError: the source is a path or a data set on the network.
        TrustError: the source is code of a package that is not trusted.
    """
    given: Any = data.get("source")
    is_mapping = isinstance(given, dict) and all(isinstance(value, dict | None) for value in given.values())
    if not isinstance(given, str) and not is_mapping:
        raise ConfigError("the model does not record its training data. Pass --data")
    name, options = split_name(given, "the artifact's data.source")
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


def _has_path(source: Any, options: Mapping[str, Any]) -> bool:
    """Whether an option of a source is a path."""
    hints = typing.get_type_hints(source.__init__)
    return any(Path in (hints.get(name), *typing.get_args(hints.get(name))) for name in options)
