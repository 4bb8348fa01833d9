"""Listing and clearing the cache: stores of decoded images, and downloaded data sets."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from convae.core.errors import ConfigError
from convae.core.names import shape_text
from convae.data.data_dirs import cache_directory

Sort = Literal["images", "download"]
_DAY = 86400.0
_SHORT = 8


@dataclass(frozen=True)
class Cached:
    """One item of the cache.

    Attributes:
        path: its folder.
        sort: decoded `images`, or a `download`.
        name: its name in lists and for removal.
        source: source of the images; empty for an incomplete store.
        size: shape of an image and type of its values, as text.
        images: number of images.
        bytes: size on the disk.
        used: time of the last use, in seconds since the epoch.
    """

    path: Path
    sort: Sort
    name: str
    source: str
    size: str
    images: int
    bytes: int
    used: float

    @property
    def days(self) -> float:
        """Days since the last use."""
        return max(0.0, time.time() - self.used) / _DAY


def list_cache() -> list[Cached]:
    """All items of the cache, the least recently used first."""
    found = [_store(path) for path in _folders("stores") if path.name[:1] != "." or path.suffix == ".partial"]
    found += [_download(path) for path in _folders("data")]
    return sorted(found, key=lambda each: each.used)


def choose(held: Sequence[Cached], names: Sequence[str], days: float | None) -> list[Cached]:
    """Selects items of the cache.

    Args:
        held: all items.
        names: prefixes of names, or sources; empty for all.
        days: only items that were not used for this number of days.

    Raises:
        ConfigError: no item has such a name.
    """
    found = [] if names else [*held]
    for name in names:
        named = [each for each in held if name and (each.name.startswith(name) or each.source == name)]
        if not named:
            known = ", ".join(each.name for each in held) or "nothing"
            raise ConfigError(f"nothing in the cache has the name '{name}'. Use {known}")
        found += [each for each in named if each not in found]
    return [each for each in found if days is None or each.days >= days]


def remove(cached: Cached) -> bool:
    """Removes an item from the cache; returns False if another process is writing it.

    A training that reads the store is not affected.
    """
    place = cached.path.name.removeprefix(".").partition("-")[0].removesuffix(".partial")
    lock = cached.path.with_name(f"{place}.lock")
    try:
        with FileLock(lock, timeout=0) if cached.sort == "images" else contextlib.nullcontext():
            shutil.rmtree(cached.path, ignore_errors=True)
    except Timeout:
        return False
    return not cached.path.exists()


def touch(folder: Path) -> None:
    """Updates the time of the last use of a store."""
    with contextlib.suppress(OSError):  # a shared cache may be read-only
        (folder / "index.json").touch()


def _folders(inner: str) -> list[Path]:
    place = cache_directory() / inner
    try:
        return [path for path in sorted(place.iterdir()) if path.is_dir() and not path.is_symlink()]
    except OSError:
        return []


def _store(path: Path) -> Cached:
    index: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        read = json.loads((path / "index.json").read_text(encoding="utf-8"))
        index = read if isinstance(read, dict) else {}
    image_format = index.get("form") or {}
    size = (
        f"{shape_text([image_format['channels'], *image_format['size']])} {image_format['kind']}"
        if image_format
        else ""
    )
    files = [file for file in path.iterdir() if file.is_file()]
    used = [file.stat().st_mtime for file in files if file.name == "index.json"] or [path.stat().st_mtime]
    name = "-".join(part[:_SHORT] for part in path.name.removeprefix(".").removesuffix(".partial").split("-"))
    return Cached(path, "images", name, index.get("source", ""), size, index.get("count", 0), _bytes(path), used[0])


def _download(path: Path) -> Cached:
    return Cached(path, "download", path.name, path.name, "", 0, _bytes(path), path.stat().st_mtime)


def _bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
