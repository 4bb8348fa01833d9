"""Folders of data sets."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from convae.core.cache import cache_directory, is_offline
from convae.core.paths import local_path


@dataclass(frozen=True)
class DataDirs:
    """The folders that are searched for data sets.

    Attributes:
        directories: in the order of the search; downloads go into the last one.
        download: whether a missing data set may be downloaded.
    """

    directories: tuple[Path, ...] = ()
    download: bool = False


def find_data_dirs(given: Path | None, download: bool) -> DataDirs:
    """The folders of data sets: only the given one, or `$CONVAE_DATA` and the user's cache."""
    download = download and not is_offline()
    if given is not None:
        return DataDirs((local_path(given),), download)
    variable = os.environ.get("CONVAE_DATA")
    named = (local_path(variable),) if variable else ()
    return DataDirs((*named, cache_directory() / "data"), download)
