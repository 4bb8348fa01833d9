"""How a store comes about: read in parallel, written in order, resumed where a killed process stopped.

    chunks ── read in threads ──> pixels.bin, then a line of journal.jsonl ──> names, arrays, index; renamed

A chunk counts once its line is in the journal and its images have the digests that the line states, so neither a
killed process nor a lost page of the disk is taken for work that is done. Images that an earlier store of the same
source holds unchanged are copied from there.
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
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from convae.core.errors import DataError, OutputError
from convae.core.progress import Progress
from convae.data.chunks import Chunk, ChunkReader
from convae.data.ranges import fact_array
from convae.data.sources.base import Listing, Source
from convae.data.store import ImageFormat, Store, write_index, write_skipped

JOURNAL = "journal.jsonl"
_CHUNK_BYTES = 1 << 20
_RESERVE = 1 << 28
_RESERVED = 20
"""Bytes of the disk that a store leaves free at most, and the share of a small disk: one of so many parts."""

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
    """Writes a whole store into `folder`, going on with what an earlier call left there.

    Args:
        folder: for this source and form alone.
        source: whose images are stored.
        fingerprint: the source's.
        image_format: what the images are brought to.
        known: an earlier store of the same source and form.
        progress: told how many images are done.

    Raises:
        DataError: none of the images can be read, or the world failed while they were, and did so again.
        OutputError: the disk has no room.
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
        # What Pillow would warn of either keeps an image from being read, and then has a reason, or does not matter.
        warnings.simplefilter("ignore")
        chunks = _resumed(journal, pixels, image_format, [reader.key(span) for span in spans])
        done = sum(len(span) for span in spans[: len(chunks)])
        for chunk, content in _in_order(pool, reader, spans[len(chunks) :], ahead=2 * workers):
            pixels.write(content)
            pixels.flush()
            journal.write(json.dumps(asdict(chunk)).encode() + b"\n")
            journal.flush()
            chunks.append(chunk)
            done += len(chunk.kept) + len(chunk.skipped)
            if progress is not None:
                progress(done, total, what)
    _finish(folder, source, image_format, listing, keys, chunks)


def _room(folder: Path, source: Source, image_format: ImageFormat, total: int) -> str:
    """What the store will take of the disk, in words.

    Raises:
        OutputError: that is not there.
    """
    needed = total * image_format.image_bytes
    disk = shutil.disk_usage(folder)
    free = disk.free + sum(path.stat().st_size for path in folder.iterdir())
    reserve = min(_RESERVE, disk.total // _RESERVED)
    if needed + reserve > free:
        raise OutputError(
            f"{folder.parent}: the {total:,} decoded images of {source.name} take {_megabytes(needed)}, of which"
            f" {_megabytes(free)} are free and {_megabytes(reserve)} have to stay free"
        )
    return _megabytes(needed)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB" if count >= 1e7 else f"{count / 1e6:,.1f} MB"


def _keys(listing: Listing, fingerprint: str) -> list[bytes]:
    """What each image is known by: its name, and what changes when it does."""
    stamps = listing.stamps or [fingerprint] * len(listing.names)
    return [
        hashlib.blake2b(os.fsencode(f"{name}\0{stamp}"), digest_size=16).digest()
        for name, stamp in zip(listing.names, stamps, strict=True)
    ]


def _resumed(journal: BinaryIO, pixels: BinaryIO, image_format: ImageFormat, keys: Sequence[str]) -> list[Chunk]:
    """The chunks that an earlier call finished; both files are cut off after the last of them."""
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
    """`function` of each item, in order, with at most `ahead` results waiting: memory stays bounded."""
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
    """Writes the arrays, the names, the table of what was skipped and last the index; all of it reaches the disk."""
    skipped = [(listing.names[index], reason) for chunk in chunks for index, reason in chunk.skipped]
    kept = np.array([index for chunk in chunks for index in chunk.kept], np.int64)
    if not len(kept):
        name, reason = skipped[0]
        shutil.rmtree(folder)
        raise DataError(
            f"{source.name}: none of the {len(listing.names)} images can be used; the first is {name} ({reason})"
        )
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
