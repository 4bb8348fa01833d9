"""The folder of the cache, and the permission to download."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from convae.core.paths import local_path

OFFLINE = "CONVAE_OFFLINE"
"""The environment variable that forbids downloads."""


def cache_directory() -> Path:
    """The folder of the cache: `$CONVAE_CACHE`, or the user's cache."""
    given = os.environ.get("CONVAE_CACHE")
    return local_path(given) if given else platformdirs.user_cache_path("convae")


def is_offline() -> bool:
    """Whether `$CONVAE_OFFLINE` forbids downloads."""
    return os.environ.get(OFFLINE, "") not in {"", "0"}
