"""Reading chunks of images for the store, from a source or an earlier store, and converting them to its format."""

from __future__ import annotations

import contextlib
import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convae.core.errors import DataError
from convae.data.images.conversion import batchable_values, preprocess, preprocess_batch
from convae.data.images.pixels import Pixels, as_kind
from convae.data.images.ranges import Facts, measure, raw_values, spread
from convae.data.io.retries import is_transient, retry, transient_error
from convae.data.sources.base import Record, Source, content_digest
from convae.data.store.store import ImageFormat, Store


@dataclass
class Chunk:
    """Consecutive images after reading, and the reasons for unreadable ones.

    Attributes:
        key: hash of the keys of its images.
        kept: positions in the listing of the readable images.
        sizes: their original sizes.
        digests: SHA-256 of their values, hex.
        identities: digests of their original content, hex.
        skipped: (position, reason) of the unreadable images.
        facts: `Facts` of the images.
    """

    key: str
    kept: list[int] = field(default_factory=list)
    sizes: list[tuple[int, ...]] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    identities: list[str] = field(default_factory=list)
    skipped: list[tuple[int, str]] = field(default_factory=list)
    facts: list[Sequence[Any]] = field(default_factory=list)


class _Read(NamedTuple):
    """An image before it is resized.

    Attributes:
        pixels: values over the range of their type.
        size: original size.
        identity: digest of the content.
        facts: facts about the original.
    """

    pixels: Image.Image | Pixels
    size: tuple[int, ...]
    identity: bytes
    facts: Facts


class ChunkReader:
    """Reads the images of a span from the source or from an earlier store; called from several threads."""

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
        """Key of the chunk with these images."""
        return hashlib.blake2b(b"".join(self._keys[span.start : span.stop]), digest_size=16).hexdigest()

    def __call__(self, span: range) -> tuple[Chunk, bytes]:
        """The chunk of the images at these positions, and the concatenated values of the readable ones."""
        chunk, content = Chunk(self.key(span)), bytearray()
        image_format = self._image_format
        found: dict[int, _Read] = {}
        values: dict[int, Pixels] = {}
        together: defaultdict[tuple[int, ...], dict[int, NDArray[np.uint8]]] = defaultdict(dict)
        for index in span:
            with self._excused(chunk, index):
                found[index] = self._read(index)
                pixels = found[index].pixels
                waiting = (
                    batchable_values(pixels, image_format.channels)
                    if image_format.kind == "uint8" and len(image_format.size) == 2 and image_format.missing is None
                    else None
                )
                if waiting is None:
                    values[index] = _fitted(pixels, self._image_format)
                else:
                    together[waiting.shape][index] = waiting
        for images in together.values():
            try:
                values.update(
                    zip(
                        images,
                        preprocess_batch(
                            [*images.values()],
                            image_format.size,
                            image_format.resize_mode,
                            image_format.interpolation,
                        ),
                        strict=True,
                    )
                )
            except Exception:  # Processing one by one finds the faulty image.
                for index, pixels in images.items():
                    with self._excused(chunk, index):
                        values[index] = _fitted(pixels, self._image_format)
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

    def _read(self, index: int) -> _Read:
        """Reads an image from the earlier store or the source."""
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
                pass  # Damaged in the earlier store; read it from the source.
        record = retry(lambda: self._source.record(index, self._image_format.size))
        values, weights = _observed(record, self._source.value_range, self._image_format)
        facts = measure(values, record.header, self._source.value_range)._replace(left_out=record.left_out)
        identity = record.identity or content_digest(record.pixels)
        rescaled = _rescaled(record, values, weights, self._source.value_range, self._image_format)
        return _Read(rescaled, record.size, identity, facts)

    @contextlib.contextmanager
    def _excused(self, chunk: Chunk, index: int) -> Iterator[None]:
        """Records an error of an image as the reason for skipping it.

        Raises:
            DataError: the cause is external, not the image.
        """
        try:
            yield
        except Exception as error:
            if is_transient(error):
                raise transient_error(f"{self._source.name}: {self._names[index]}", error) from error
            chunk.skipped.append((index, str(error).partition("\n")[0] or type(error).__name__))


def convert(record: Record, span: tuple[float, float] | None, image_format: ImageFormat) -> Pixels:
    """An image as it is stored, (*size, channels), with a last channel of weights if values may be missing.

    Args:
        record: the image as read by a source.
        span: the configured range of the source.
        image_format: format of stored images.

    Raises:
        DataError: the image cannot be converted, or all of its values are missing.
    """
    values, weights = _observed(record, span, image_format)
    return _fitted(_rescaled(record, values, weights, span, image_format), image_format)


def _observed(
    record: Record, span: tuple[float, float] | None, image_format: ImageFormat
) -> tuple[Image.Image | NDArray[Any], NDArray[Any] | None]:
    """The values of an image, without NaN that marks missing ones, and (*sizes,) weights if any may be missing."""
    values = raw_values(record.pixels)
    if image_format.missing != "nan" or not (isinstance(values, np.ndarray) and values.dtype.kind == "f"):
        return values, record.mask
    absent = np.isnan(values)
    return np.where(absent, 0.0 if span is None else span[0], values), ~absent.any(-1) if absent.any() else None


def _rescaled(
    record: Record,
    values: Image.Image | NDArray[Any],
    weights: NDArray[Any] | None,
    span: tuple[float, float] | None,
    image_format: ImageFormat,
) -> Image.Image | Pixels:
    """Values over the range of their type, with a further channel of weights where the format has it."""
    pixels = spread(values, None if record.header is None else record.header.bits, span, image_format.kind)
    return _with_weights(pixels, weights, image_format) if image_format.missing in ("nan", "mask") else pixels


def _with_weights(pixels: Image.Image | Pixels, weights: NDArray[Any] | None, image_format: ImageFormat) -> Pixels:
    """Pixels with a further channel of weights.

    Raises:
        DataError: the weights have another size, or an image with weights would be resized.
    """
    values = _preprocessed(pixels, image_format, image_format.channels)
    if weights is None:
        weights = np.ones(values.shape[:-1], bool)
    elif weights.shape != values.shape[:-1] or _sides(pixels) != values.shape[:-1]:
        raise DataError("images with missing values cannot be resized. Leave out data.size")
    return np.concatenate([values, as_kind(weights, values.dtype.name)[..., None]], -1)


def _fitted(pixels: Image.Image | Pixels, image_format: ImageFormat) -> Pixels:
    """Pixels in the sizes, channels and type of the format.

    Raises:
        DataError: they cannot be converted, or all values are missing.
    """
    found = _preprocessed(pixels, image_format, image_format.stored_channels)
    if image_format.missing is not None and not found[..., -1].any():
        raise DataError("all values are missing")
    return found


def _preprocessed(pixels: Image.Image | Pixels, image_format: ImageFormat, channels: int) -> Pixels:
    """Pixels in the sizes and type of the format, with so many channels."""
    return preprocess(
        pixels,
        image_format.size,
        channels=channels,
        resize_mode=image_format.resize_mode,
        interpolation=image_format.interpolation,
        kind=image_format.kind,
    )


def _sides(pixels: Image.Image | Pixels) -> tuple[int, ...]:
    """Spatial sizes, height first."""
    return (pixels.height, pixels.width) if isinstance(pixels, Image.Image) else pixels.shape[:-1]
