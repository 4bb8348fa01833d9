"""The cache of surveys and stores, keyed by everything they depend on."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock

from convae.core.errors import OutputError
from convae.core.files import write_json, writing_errors
from convae.core.progress import Progress
from convae.data.building import JOURNAL, build
from convae.data.data_dirs import cache_directory
from convae.data.sources.base import Source, Survey
from convae.data.store import FORMAT, ImageFormat, Store, open_if_complete
from convae.data.stores import touch


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
    with _cache(path):
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
    )
    folder = cache_directory() / "stores" / f"{place}-{_key(fingerprint)}"
    store = open_if_complete(folder, image_format)
    if store is not None:
        touch(folder)
        return store
    with _cache(folder):
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
def _cache(path: Path) -> Iterator[None]:
    """Adds the fix to errors while writing into the cache."""
    try:
        with writing_errors(path):
            yield
    except OutputError as error:
        raise OutputError(f"{error}. Set CONVAE_CACHE to a folder on a disk with enough space") from error
