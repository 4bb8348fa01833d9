"""How a store comes about: read in parallel, written in order, resumed where a killed process stopped.

    chunks ── read in threads ──> pixels.bin, then a line of journal.jsonl ──> names, arrays, index; renamed

A chunk counts once its line is in the journal and its images have the digests that the line states, so neither a
killed process nor a lost page of the disk is taken for work that is done. Images that an earlier store of the same
source holds unchanged are copied from there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import warnings
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convae.core.errors import DataError, OutputError
from convae.core.progress import Progress
from convae.data.identity import content_digest
from convae.data.images import alike, preprocess, preprocess_alike
from convae.data.pixels import Pixels
from convae.data.ranges import Facts, fact_array, measure, raw_values, spread
from convae.data.sources.base import Listing, Source
from convae.data.store import ImageFormat, Store, write_index, write_skipped
from convae.data.world import is_of_the_world, patiently, world_error

JOURNAL = "journal.jsonl"
_CHUNK_BYTES = 1 << 20
_RESERVE = 1 << 28
_RESERVED = 20
"""Bytes of the disk that a store leaves free at most, and the share of a small disk: one of so many parts."""

_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclass
class _Chunk:
    """Some consecutive images, read: those that could be, and the others with the reason.

    Attributes:
        key: hash of the keys of all its images.
        kept: positions in the listing of the images that could be read.
        sizes: their original sizes.
        digests: SHA-256 of their values, hex.
        identities: digests of their content as the source holds it, hex.
        skipped: position and reason of the others.
        facts: what the images were, as `Facts` has it.
    """

    key: str
    kept: list[int] = field(default_factory=list)
    sizes: list[tuple[int, ...]] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    identities: list[str] = field(default_factory=list)
    skipped: list[tuple[int, str]] = field(default_factory=list)
    facts: list[Sequence[Any]] = field(default_factory=list)


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
    reader = _Reader(source, image_format, listing.names, keys, known)
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


class _Read(NamedTuple):
    """An image before it is resized.

    Attributes:
        pixels: with values over the range of their type.
        size: its own.
        identity: digest of its content.
        facts: what it was.
    """

    pixels: Image.Image | Pixels
    size: tuple[int, ...]
    identity: bytes
    facts: Facts


class _Reader:
    """Reads the images of a span, from the source or from an earlier store; runs in several threads at once."""

    def __init__(
        self,
        source: Source,
        image_format: ImageFormat,
        names: Sequence[str],
        keys: Sequence[bytes],
        known: Store | None,
    ) -> None:
        self._source, self._image_format, self._names, self._keys = source, image_format, names, keys
        self._known = known
        self._rows = {} if known is None else {key.tobytes(): row for row, key in enumerate(known.keys)}

    def key(self, span: range) -> str:
        """What a chunk of these images is known by."""
        return hashlib.blake2b(b"".join(self._keys[span.start : span.stop]), digest_size=16).hexdigest()

    def __call__(self, span: range) -> tuple[_Chunk, bytes]:
        chunk, content = _Chunk(self.key(span)), bytearray()
        image_format = self._image_format
        found: dict[int, _Read] = {}
        values: dict[int, Pixels] = {}
        together: defaultdict[tuple[int, ...], dict[int, NDArray[np.uint8]]] = defaultdict(dict)
        for index in span:
            with self._excused(chunk, index):
                found[index] = self._read(index)
                pixels = found[index].pixels
                waiting = (
                    alike(pixels, image_format.channels)
                    if image_format.kind == "uint8" and len(image_format.size) == 2
                    else None
                )
                if waiting is None:
                    values[index] = self._preprocessed(pixels)
                else:
                    together[waiting.shape][index] = waiting
        for images in together.values():
            try:
                values.update(
                    zip(
                        images,
                        preprocess_alike([*images.values()], image_format.size, image_format.resize_mode),
                        strict=True,
                    )
                )
            except Exception:  # One of them is at fault, and which one shows when each goes alone.
                for index, pixels in images.items():
                    with self._excused(chunk, index):
                        values[index] = self._preprocessed(pixels)
        chunk.skipped.sort()
        for index in sorted(values):
            raw = values[index].tobytes()
            chunk.kept.append(index)
            chunk.sizes.append(found[index].size)
            chunk.facts.append(found[index].facts)
            chunk.digests.append(hashlib.sha256(raw).hexdigest())
            chunk.identities.append(found[index].identity.hex())
            content += raw
        return chunk, bytes(content)

    def _preprocessed(self, pixels: Image.Image | Pixels) -> Pixels:
        image_format = self._image_format
        return preprocess(
            pixels,
            image_format.size,
            channels=image_format.channels,
            resize_mode=image_format.resize_mode,
            kind=image_format.kind,
        )

    def _read(self, index: int) -> _Read:
        """An image, from the earlier store or the source."""
        row = self._rows.get(self._keys[index])
        if self._known is not None and row is not None:
            try:
                stored = self._known.gather(np.array([row]))[0].movedim(0, -1).numpy()
                return _Read(
                    stored,
                    tuple(self._known.original_sizes[row].tolist()),
                    self._known.identities[row].tobytes(),
                    Facts(*self._known.facts[row].tolist()),
                )
            except DataError:
                pass  # Damaged on the disk: the source still has it.
        record = patiently(lambda: self._source.record(index, self._image_format.size))
        span = self._source.value_range
        values = raw_values(record.pixels)
        facts = measure(values, record.header, span)._replace(left_out=record.left_out)
        bits = None if record.header is None else record.header.bits
        identity = record.identity or content_digest(record.pixels)
        return _Read(spread(values, bits, span, self._image_format.kind), record.size, identity, facts)

    @contextlib.contextmanager
    def _excused(self, chunk: _Chunk, index: int) -> Iterator[None]:
        """What is wrong with an image makes it one that is skipped, with the reason: it must not cost the others.

        Raises:
            DataError: it was not the image that was wrong.
        """
        try:
            yield
        except Exception as error:
            if is_of_the_world(error):
                raise world_error(f"{self._source.name}: {self._names[index]}", error) from error
            chunk.skipped.append((index, str(error).partition("\n")[0] or type(error).__name__))


def _keys(listing: Listing, fingerprint: str) -> list[bytes]:
    """What each image is known by: its name, and what changes when it does."""
    stamps = listing.stamps or [fingerprint] * len(listing.names)
    return [
        hashlib.blake2b(os.fsencode(f"{name}\0{stamp}"), digest_size=16).digest()
        for name, stamp in zip(listing.names, stamps, strict=True)
    ]


def _resumed(journal: BinaryIO, pixels: BinaryIO, image_format: ImageFormat, keys: Sequence[str]) -> list[_Chunk]:
    """The chunks that an earlier call finished; both files are cut off after the last of them."""
    chunks: list[_Chunk] = []
    journal.seek(0)
    pixels.seek(0)
    line_end = pixel_end = 0
    for line, key in zip(journal, keys, strict=False):
        try:
            written = json.loads(line)
            chunk = _Chunk(**{**written, "sizes": [tuple(size) for size in written["sizes"]]})
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
    chunks: Sequence[_Chunk],
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
