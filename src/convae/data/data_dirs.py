"""Where data sets are looked for and where decoded images are kept."""

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
    """The folders in which data sets are looked for, first to last.

    Attributes:
        directories: the folders; what is downloaded goes into the last.
        download: whether a known data set that is in none of them may be downloaded.
    """

    directories: tuple[Path, ...] = ()
    download: bool = False


def cache_directory() -> Path:
    """The folder for what can be made again: `$CONVAE_CACHE`, otherwise the user's cache."""
    given = os.environ.get("CONVAE_CACHE")
    return local_path(given) if given else platformdirs.user_cache_path("convae")


def find_data_dirs(given: Path | None, download: bool) -> DataDirs:
    """Where data sets lie: a folder that the user names alone, otherwise `$CONVAE_DATA` and the user's cache."""
    download = download and os.environ.get(OFFLINE, "") in {"", "0"}
    if given is not None:
        return DataDirs((local_path(given),), download)
    variable = os.environ.get("CONVAE_DATA")
    named = (local_path(variable),) if variable else ()
    return DataDirs((*named, cache_directory() / "data"), download)
