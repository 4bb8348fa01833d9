"""Folders of data sets and of the cache."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from convae.core.paths import local_path

OFFLINE = "CONVAE_OFFLINE"
"""The environment variable that forbids downloads."""


@dataclass(frozen=True)
class DataDirs:
    """The folders that are searched for data sets.

    Attributes:
        directories: in the order of the search; downloads go into the last one.
        download: whether a missing data set may be downloaded.
    """

    directories: tuple[Path, ...] = ()
    download: bool = False


def cache_directory() -> Path:
    """The folder of the cache: `$CONVAE_CACHE`, or the user's cache."""
    given = os.environ.get("CONVAE_CACHE")
    return local_path(given) if given else platformdirs.user_cache_path("convae")


def find_data_dirs(given: Path | None, download: bool) -> DataDirs:
    """The folders of data sets: only the given one, or `$CONVAE_DATA` and the user's cache."""
    download = download and os.environ.get(OFFLINE, "") in {"", "0"}
    if given is not None:
        return DataDirs((local_path(given),), download)
    variable = os.environ.get("CONVAE_DATA")
    named = (local_path(variable),) if variable else ()
    return DataDirs((*named, cache_directory() / "data"), download)
