"""The store: every image of a source decoded and resized once, into a memory map of bytes.

A store is a folder in the cache, named by a hash of everything its content depends on. It is built beside its place
and renamed when complete, under a lock: two processes may want it at once, and one that is killed leaves nothing
that could be taken for a store.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import shutil
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from convae.core.errors import DataError, OutputError
from convae.core.files import new_folder, write_json, writing
from convae.core.progress import Progress
from convae.data.config import Fit
from convae.data.images import preprocess
from convae.data.places import cache_directory
from convae.data.sources.base import Listing, Pixels, Source, Survey

FORMAT = 1
"""Version of the folder's layout and of the resizing; another one is another store."""
_CHUNK_BYTES = 1 << 20

_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclass(frozen=True)
class Form:
    """What the images are brought to: spatial sizes (height first), channels, and how they fill the size."""

    size: tuple[int, ...]
    channels: int
    fit: Fit = "crop"


class Store:
    """The images of one source in one form.

    Attributes:
        folder: where it lies.
        pixels: (images, *sizes, channels) uint8, mapped into memory, not read.
        labels: (images,) class numbers, -1 where one is missing; None without labels.
        parts: (images,) official parts, counted as in `sources.base.PARTS`; None without an official split.
        digests: (images, 32) SHA-256 of each image's pixels.
        original_sizes: (images, axes) spatial sizes before resizing.
        classes: names of the classes, or None.
        skipped: (name, reason) of each image that could not be read.
    """

    def __init__(self, folder: Path, index: dict[str, Any]) -> None:
        self.folder = folder
        self.classes: tuple[str, ...] | None = tuple(index["classes"]) if index["classes"] else None
        self.skipped: list[tuple[str, str]] = [(name, reason) for name, reason in index["skipped"]]
        self.pixels = np.asarray(np.memmap(folder / "pixels.bin", np.uint8, "r", shape=tuple(index["shape"])))
        with np.load(folder / "arrays.npz", allow_pickle=False) as arrays:
            self.labels: NDArray[np.int64] | None = arrays.get("labels")
            self.parts: NDArray[np.int8] | None = arrays.get("parts")
            self.digests: NDArray[np.uint8] = arrays["digests"]
            self.original_sizes: NDArray[np.int64] = arrays["original_sizes"]

    def __len__(self) -> int:
        return len(self.pixels)

    @cached_property
    def names(self) -> list[str]:
        """The name of each image; read when first asked for."""
        names: list[str] = json.loads((self.folder / "names.json").read_text(encoding="utf-8"))
        return names


def survey(source: Source, fingerprint: str, progress: Progress | None = None) -> Survey:
    """What all images of the source have in common; remembered as long as its `fingerprint` stays.

    Raises:
        DataError: the source is missing, damaged or empty.
        OutputError: the cache cannot be written.
    """
    path = cache_directory() / "surveys" / f"{_key(source.name, fingerprint)}.json"
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        return Survey(known["size"] and tuple(known["size"]), known["channels"])
    except (OSError, ValueError, KeyError, TypeError):
        found = source.survey(progress)
    with _cache(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, asdict(found))
    return found


def open_store(source: Source, fingerprint: str, form: Form, progress: Progress | None = None) -> Store:
    """The store of a source, as its `fingerprint` has it, in a form; built first where there is none that is whole.

    Raises:
        DataError: the source is missing, damaged, or none of its images can be read.
        OutputError: the cache cannot be written.
    """
    key = _key(FORMAT, source.name, fingerprint, form.size, form.channels, form.fit)
    folder = cache_directory() / "stores" / key
    index = _whole(folder)
    if index is None:
        with _cache(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.with_name(f"{key}.lock")):
                # Another process may have built it while this one waited.
                index = _whole(folder)
                if index is None:
                    for left in folder.parent.glob(f".{key}.*"):
                        shutil.rmtree(left, ignore_errors=True)
                    with new_folder(folder) as temporary:
                        _build(temporary, source, form, progress)
                    index = _whole(folder)
    if index is None:
        raise OutputError(f"{folder}: was changed by another program while it was written: try again")
    return Store(folder, index)


def _key(*parts: object) -> str:
    """A name for what depends on `parts` and on nothing else."""
    text = json.dumps(parts)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@contextlib.contextmanager
def _cache(path: Path) -> Iterator[None]:
    """Errors while writing into the cache, with the mend."""
    try:
        with writing(path):
            yield
    except OutputError as error:
        raise OutputError(f"{error}: set CONVAE_CACHE to a folder with room for the decoded images") from error


def _whole(folder: Path) -> dict[str, Any] | None:
    """The index of the store in `folder`, if there is one and its files have the sizes that it states."""
    try:
        index: dict[str, Any] = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        fits = index["format"] == FORMAT and index["files"]["pixels.bin"] == math.prod(index["shape"])
        whole = fits and all((folder / name).stat().st_size == size for name, size in index["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return index if whole else None


@dataclass
class _Block:
    """Some consecutive images, read: those that could be, and the others with the reason."""

    kept: list[int]
    pixels: list[Pixels]
    sizes: list[tuple[int, ...]]
    digests: list[bytes]
    skipped: list[tuple[str, str]]


def _build(folder: Path, source: Source, form: Form, progress: Progress | None) -> None:
    """Writes a whole store into an empty folder."""
    listing = source.listing()
    total = len(listing.names)
    length = max(1, min(256, _CHUNK_BYTES // (math.prod(form.size) * form.channels)))
    chunks = (range(start, min(start + length, total)) for start in range(0, total, length))
    read = _Block([], [], [], [], [])
    workers = os.cpu_count() or 1
    with warnings.catch_warnings(), ThreadPoolExecutor(workers) as pool, (folder / "pixels.bin").open("wb") as file:
        # What Pillow would warn of either keeps an image from being read, and then has a reason, or does not matter.
        warnings.simplefilter("ignore")
        for block in _in_order(pool, lambda chunk: _read(source, listing, form, chunk), chunks, ahead=2 * workers):
            for pixels in block.pixels:
                file.write(pixels.tobytes())
            read.kept += block.kept
            read.sizes += block.sizes
            read.digests += block.digests
            read.skipped += block.skipped
            if progress is not None:
                progress(len(read.kept) + len(read.skipped), total, f"storing {source.name} (images)")
    if not read.kept:
        name, reason = read.skipped[0]
        raise DataError(f"{source.name}: none of the {total} images can be used; the first is {name} ({reason})")
    _finish(folder, listing, form, read)


def _read(source: Source, listing: Listing, form: Form, chunk: range) -> _Block:
    """Reads and resizes the images of one chunk; runs in several threads at once."""
    block = _Block([], [], [], [], [])
    for index in chunk:
        try:
            record, original = source.record(index, form.size)
            pixels = preprocess(record, form.size, channels=form.channels, fit=form.fit)
        except Exception as error:  # One bad file, whatever is wrong with it, must not cost the others.
            block.skipped.append((listing.names[index], str(error).partition("\n")[0] or type(error).__name__))
            continue
        block.kept.append(index)
        block.pixels.append(pixels)
        block.sizes.append(original)
        block.digests.append(hashlib.sha256(pixels.tobytes()).digest())
    return block


def _in_order(
    pool: ThreadPoolExecutor, function: Callable[[_In], _Out], items: Iterable[_In], ahead: int
) -> Iterator[_Out]:
    """`function` of each item, in order, with at most `ahead` results waiting: memory stays bounded."""
    waiting: deque[Future[_Out]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _finish(folder: Path, listing: Listing, form: Form, read: _Block) -> None:
    """Writes the arrays, the names and last the index, which states the size of every file."""
    kept = np.array(read.kept)
    arrays: dict[str, NDArray[Any]] = {
        "digests": np.frombuffer(b"".join(read.digests), np.uint8).reshape(len(kept), 32),
        "original_sizes": np.array(read.sizes, np.int64),
    }
    if listing.labels is not None:
        arrays["labels"] = listing.labels[kept].astype(np.int64)
    if listing.parts is not None:
        arrays["parts"] = listing.parts[kept].astype(np.int8)
    with (folder / "arrays.npz").open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for its own options
    (folder / "names.json").write_text(json.dumps([listing.names[index] for index in read.kept]), encoding="utf-8")
    index = {
        "format": FORMAT,
        "shape": [len(kept), *form.size, form.channels],
        "classes": listing.classes,
        "skipped": [*listing.skipped, *read.skipped],
        "files": {path.name: path.stat().st_size for path in sorted(folder.iterdir())},
    }
    write_json(folder / "index.json", index)
