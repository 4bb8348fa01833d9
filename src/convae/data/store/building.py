"""Building a store: images are read in parallel and written in order; an interrupted build resumes.

    chunks ── read in threads ──> pixels.bin, then a line of journal.jsonl ──> names, arrays, index; renamed

A chunk is complete if its line is in the journal and its images have the digests in the line, so that neither a killed
process nor a lost disk page goes unnoticed. Unchanged images are copied from an earlier store of the same source.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from convae.core.errors import DataError, OutputError
from convae.core.names import count_text
from convae.core.progress import Progress
from convae.data.images.ranges import fact_array
from convae.data.sources.base import Listing, Source
from convae.data.store.chunks import Chunk, ChunkReader
from convae.data.store.store import ImageFormat, Store, write_index, write_skipped

JOURNAL = "journal.jsonl"
_CHUNK_BYTES = 1 << 20
_RESERVE = 1 << 28
_RESERVED = 20
"""Disk space to keep free: an upper limit in bytes, and the inverse of the fraction of a small disk."""

_In = TypeVar("_In")
_Out = TypeVar("_Out")


def build(
    folder: Path,
    source: Source,
    fingerprint: str,
    image_format: ImageFormat,
    known: Store | None,
    progress: Progress | None,
) -> None:
    """Builds a store in `folder`, or resumes an interrupted build.

    Args:
        folder: folder of this source and format.
        source: source of the images.
        fingerprint: fingerprint of the source.
        image_format: format to convert the images to.
        known: an earlier store of the same source and format.
        progress: called with the number of finished images.

    Raises:
        DataError: no image is readable, or reading failed for an external reason after retries.
        OutputError: not enough disk space.
    """
    listing = source.listing()
    keys = _keys(listing, fingerprint)
    reader = ChunkReader(source, image_format, listing.names, keys, known)
    total = len(listing.names)
    length = max(1, min(256, _CHUNK_BYTES // image_format.image_bytes))
    spans = [range(start, min(start + length, total)) for start in range(0, total, length)]
    folder.mkdir(exist_ok=True)
    workers = os.cpu_count() or 1
    what = f"storing {source.name}, {_room(folder, source, image_format, total)} (images)"
    if progress is not None:
        progress(0, total, what)
    with (
        warnings.catch_warnings(),
        ThreadPoolExecutor(workers) as pool,
        (folder / "pixels.bin").open("ab+") as pixels,
        (folder / JOURNAL).open("ab+") as journal,
    ):
        # Problems that Pillow warns of either make an image unreadable, which is recorded, or are harmless.
        warnings.simplefilter("ignore")
        chunks = _resumed(journal, pixels, image_format, [reader.key(span) for span in spans])
        done = sum(len(span) for span in spans[: len(chunks)])
        for chunk, content in _in_order(pool, reader, spans[len(chunks) :], ahead=2 * workers):
            pixels.write(content)
            pixels.flush()
            journal.write(json.dumps(vars(chunk)).encode() + b"\n")
            journal.flush()
            chunks.append(chunk)
            done += len(chunk.kept) + len(chunk.skipped)
            if progress is not None:
                progress(done, total, what)
    _finish(folder, source, image_format, listing, keys, chunks)


def _room(folder: Path, source: Source, image_format: ImageFormat, total: int) -> str:
    """Disk space of the store, as text.

    Raises:
        OutputError: not enough disk space.
    """
    needed = total * image_format.image_bytes
    disk = shutil.disk_usage(folder)
    free = disk.free + sum(path.stat().st_size for path in folder.iterdir())
    reserve = min(_RESERVE, disk.total // _RESERVED)
    if needed + reserve > free:
        raise OutputError(
            f"{folder.parent}: the {total:,} decoded images of {source.name} need {_megabytes(needed)}, but only"
            f" {_megabytes(free)} are free, of which {_megabytes(reserve)} are reserved"
        )
    return _megabytes(needed)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB" if count >= 1e7 else f"{count / 1e6:,.1f} MB"


def _keys(listing: Listing, fingerprint: str) -> list[bytes]:
    """Key of each image: a hash of its name and its stamp."""
    stamps = listing.stamps or [fingerprint] * len(listing.names)
    return [
        hashlib.blake2b(os.fsencode(f"{name}\0{stamp}"), digest_size=16).digest()
        for name, stamp in zip(listing.names, stamps, strict=True)
    ]


def _resumed(journal: BinaryIO, pixels: BinaryIO, image_format: ImageFormat, keys: Sequence[str]) -> list[Chunk]:
    """The complete chunks of an earlier call; both files are truncated after the last one."""
    chunks: list[Chunk] = []
    journal.seek(0)
    pixels.seek(0)
    line_end = pixel_end = 0
    for line, key in zip(journal, keys, strict=False):
        try:
            written = json.loads(line)
            chunk = Chunk(**{**written, "sizes": [tuple(size) for size in written["sizes"]]})
        except (ValueError, TypeError, KeyError):
            break
        content = pixels.read(image_format.image_bytes * len(chunk.kept))
        images = [
            content[start : start + image_format.image_bytes]
            for start in range(0, len(content), image_format.image_bytes)
        ]
        if chunk.key != key or [hashlib.sha256(image).hexdigest() for image in images] != chunk.digests:
            break
        chunks.append(chunk)
        line_end, pixel_end = line_end + len(line), pixel_end + len(content)
    journal.truncate(line_end)
    pixels.truncate(pixel_end)
    return chunks


def _in_order(
    pool: ThreadPoolExecutor, function: Callable[[_In], _Out], items: Iterable[_In], ahead: int
) -> Iterator[_Out]:
    """Maps `function` over items in threads, in order, with at most `ahead` pending results."""
    waiting: deque[Future[_Out]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for left in waiting:
            left.cancel()


def _finish(
    folder: Path,
    source: Source,
    image_format: ImageFormat,
    listing: Listing,
    keys: Sequence[bytes],
    chunks: Sequence[Chunk],
) -> None:
    """Writes the arrays, the names, the table of skipped images and, last, the index; all are synced to the disk."""
    skipped = [(listing.names[index], reason) for chunk in chunks for index, reason in chunk.skipped]
    kept = np.array([index for chunk in chunks for index in chunk.kept], np.int64)
    if not len(kept):
        name, reason = skipped[0]
        shutil.rmtree(folder)
        images = count_text(len(listing.names), "image")
        raise DataError(f"{source.name}: no readable image among {images}. The first: {name} ({reason})")
    digests = [digest for chunk in chunks for digest in chunk.digests]
    identities = [identity for chunk in chunks for identity in chunk.identities]
    columns = {name: column[kept] for name, column in listing.columns.items()}
    arrays: dict[str, NDArray[Any]] = {
        "digests": np.frombuffer(bytes.fromhex("".join(digests)), np.uint8).reshape(len(kept), -1),
        "identities": np.frombuffer(bytes.fromhex("".join(identities)), np.uint8).reshape(len(kept), -1),
        "keys": np.frombuffer(b"".join(keys[index] for index in kept), np.uint8).reshape(len(kept), -1),
        "facts": fact_array([each for chunk in chunks for each in chunk.facts]),
        "original_sizes": np.array([size for chunk in chunks for size in chunk.sizes], np.int64),
        **{f"column {number}": column.values for number, column in enumerate(columns.values())},
    }
    if listing.parts is not None:
        arrays["parts"] = listing.parts[kept].astype(np.int8)
    with (folder / "arrays.npz").open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for its own options
    (folder / "names.json").write_text(json.dumps([listing.names[index] for index in kept]), encoding="utf-8")
    write_skipped(folder / "skipped.csv", [*listing.skipped, *skipped])
    write_index(folder, source.name, image_format, len(kept), listing, columns)
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
