"""The cache of surveys, stores and downloads: keyed by everything they depend on; listing and clearing it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from convae.core.cache import cache_directory
from convae.core.errors import ConfigError, OutputError
from convae.core.files import write_json, writing_errors
from convae.core.names import shape_text
from convae.core.progress import Progress
from convae.data.sources.base import Source, Survey
from convae.data.store.building import JOURNAL, build
from convae.data.store.store import FORMAT, ImageFormat, Store, open_if_complete


def survey(source: Source, fingerprint: str, progress: Progress | None = None, *, sizes: bool = True) -> Survey:
    """Surveys a source, with sizes on request; cached until `fingerprint` changes.

    Raises:
        DataError: the source is missing, damaged or empty.
        OutputError: the cache cannot be written.
    """
    path = cache_directory() / "surveys" / f"{_key(FORMAT, source.name, fingerprint, sizes)}.json"
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        return Survey(known["size"] and tuple(known["size"]), known["channels"], known["kind"])
    except (OSError, ValueError, KeyError, TypeError):
        found = source.survey(progress, sizes=sizes)
    with writing_to_cache(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, asdict(found))
    return found


def open_store(source: Source, fingerprint: str, image_format: ImageFormat, progress: Progress | None = None) -> Store:
    """Opens the store of a source in a format; builds it first unless a complete one exists.

    Raises:
        DataError: the source is missing, damaged, or none of its images can be read.
        OutputError: the cache cannot be written, or not enough disk space.
    """
    place = _key(
        FORMAT,
        source.name,
        source.lineage(),
        image_format.size,
        image_format.channels,
        image_format.resize_mode,
        image_format.kind,
        *([] if image_format.missing is None else [image_format.missing]),
        *([] if image_format.interpolation == "bicubic" else [image_format.interpolation]),
    )
    folder = cache_directory() / "stores" / f"{place}-{_key(fingerprint)}"
    store = open_if_complete(folder, image_format)
    if store is not None:
        touch(folder)
        return store
    with writing_to_cache(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{place}.lock")):
            # Another process may have built it while this one waited.
            store = open_if_complete(folder, image_format)
            if store is None:
                earlier = [path for path in folder.parent.glob(f"{place}-*") if path != folder]
                partial = folder.with_name(f".{place}.partial")
                known = next((found for path in earlier if (found := open_if_complete(path, image_format))), None)
                build(partial, source, fingerprint, image_format, known, progress)
                shutil.rmtree(folder, ignore_errors=True)
                partial.rename(folder)
                (folder / JOURNAL).unlink()
                for path in earlier:
                    shutil.rmtree(path, ignore_errors=True)
                store = open_if_complete(folder, image_format)
                if store is not None:
                    store.trust()
    if store is None:
        raise OutputError(f"{folder}: was changed by another program during writing. Try again")
    return store


def _key(*parts: object) -> str:
    """A file name for a cache key."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


@contextlib.contextmanager
def writing_to_cache(path: Path) -> Iterator[None]:
    """Turns errors of writing a file of the cache into an `OutputError` that names the fix."""
    try:
        with writing_errors(path):
            yield
    except OutputError as error:
        raise OutputError(f"{error}. Set CONVAE_CACHE to a folder on a disk with enough space") from error


Sort = Literal["images", "latents", "graphs", "download"]
_DAY = 86400.0
_SHORT = 8


@dataclass(frozen=True)
class Cached:
    """One item of the cache.

    Attributes:
        path: its folder.
        sort: decoded `images`, `latents` of a frozen encoder, exported `graphs` of a model, or a `download`: a data
            set or a pretrained model.
        name: its name in lists and for removal.
        source: source of the images, or name of the model; empty for an incomplete store.
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
    found += [_latents(path) for path in _folders("latents")]
    found += [_graphs(path) for path in _folders("graphs")]
    found += [_download(path, path.name) for path in _folders("data")]
    models = cache_directory() / "pretrained"
    found += [_download(path.parent, path.parent.relative_to(models).as_posix()) for path in _configs(models)]
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
        with FileLock(lock, timeout=0) if cached.sort != "download" else contextlib.nullcontext():
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
    index = _index(path)
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


def _latents(path: Path) -> Cached:
    index = _index(path)
    count, *shape = index.get("shape") or [0]
    used = max((file.stat().st_mtime for file in path.iterdir()), default=path.stat().st_mtime)
    size = f"{shape_text(shape)} latents" if shape else ""
    return Cached(path, "latents", path.name[:_SHORT], index.get("source", ""), size, count, _bytes(path), used)


def _graphs(path: Path) -> Cached:
    index = _index(path)
    used = max((file.stat().st_mtime for file in path.iterdir()), default=path.stat().st_mtime)
    name, size = index.get("source", ""), f"{index.get('size', '')} graphs"
    return Cached(path, "graphs", path.name[:_SHORT], name, size, 0, _bytes(path), used)


def _index(path: Path) -> dict[str, Any]:
    """The description of a folder of the cache; empty if it is not complete."""
    with contextlib.suppress(OSError, ValueError):
        read = json.loads((path / "index.json").read_text(encoding="utf-8"))
        if isinstance(read, dict):
            return read
    return {}


def _configs(models: Path) -> list[Path]:
    """The configuration files of pulled models, which are in folders by name."""
    return [path for path in sorted(models.rglob("config.json")) if ".partial" not in path.parts]


def _download(path: Path, name: str) -> Cached:
    return Cached(path, "download", name, name, "", 0, _bytes(path), path.stat().st_mtime)


def _bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
