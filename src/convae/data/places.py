"""Where data sets are looked for and where decoded images are kept."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_directory() -> Path:
    """The folder for what can be made again: `$CONVAE_CACHE`, otherwise the user's cache."""
    given = os.environ.get("CONVAE_CACHE")
    return Path(given).expanduser() if given else platformdirs.user_cache_path("convae")


def data_directories(given: Path | None) -> list[Path]:
    """The folders in which data sets are looked for, first to last.

    A folder that the user names is the only one; otherwise `$CONVAE_DATA` (when set), then the user's cache.
    """
    if given is not None:
        return [given.expanduser()]
    variable = os.environ.get("CONVAE_DATA")
    named = [Path(variable).expanduser()] if variable else []
    return [*named, cache_directory() / "data"]
