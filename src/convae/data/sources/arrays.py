"""Arrays in a .npy or .npz file: images, signals or volumes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from convae.core.errors import DataError
from convae.core.names import count_text, shape_text, unknown_message
from convae.core.paths import local_path
from convae.core.progress import Progress
from convae.data.data_dirs import DataDirs
from convae.data.images.pixels import Kind
from convae.data.images.ranges import ValueRange
from convae.data.io.npy import StoredArray, open_npy, open_npz
from convae.data.sources.base import Column, Listing, Record, Source, Survey, content_digest
from convae.data.sources.base.labels import PART_NAMES, factor_columns, numbered

_IMAGES = ("images", "imgs", "x", "data", "signals", "volumes", "arr_0")
_LABELS = ("labels", "label", "y", "targets")
_FACTORS = ("factors", "latents_classes")
_MASKS = ("mask", "masks")
_KINDS = {1: "signals", 2: "images", 3: "volumes"}
_FEW = 4
"""Largest size of an axis that is taken for channels by default."""


class Arrays(Source):
    """The rows of an array, each an image (2-D), a signal (1-D) or a volume (3-D).

    In a .npz file, the images are `images`, `x` or `data`, or the only array, and the labels are `labels` or `y`; or
    there is one array per official part, such as `train`, `x_train` or `train_images`, with labels in `train_labels`
    or `y_train`. Labels are integers, -1 if missing, or strings. Factors of variation, integers (image, factor) with
    -1 if missing, are `factors` or `latents_classes`, and become the columns `factor-1`, `factor-2` … With
    `data.missing: mask`, the array `mask`, booleans or weights from 0 to 1 (image, *sizes), marks observed pixels.

    Values are unsigned integers of 8 or 16 bits, or floats in [0, 1]; booleans become 0 and 255. Other types or ranges
    need `range`.

    Args:
        data_dirs: not used.
        path: the file.
        images: name of the array of images in a .npz file, if not one of those above.
        labels: name of the array of labels, if not one of those above.
        factors: names of the factors, one for each column of the array of factors.
        channels: whether the channel axis of an image is `first`, `last`, or there is `none`. By default, a last or
            first axis of at most four values is taken for channels in arrays of at least four axes.
        range: the values mapped to 0 and 1, such as [0, 4095]; values outside are errors.
    """

    reading_options: ClassVar = frozenset({"channels", "range"})

    def __init__(
        self,
        data_dirs: DataDirs,
        *,
        path: Path,
        images: str | None = None,
        labels: str | None = None,
        factors: tuple[str, ...] | None = None,
        channels: Literal["first", "last", "none"] | None = None,
        range: ValueRange | None = None,
    ) -> None:
        super().__init__(data_dirs)
        self._path = local_path(path)
        self._wanted = (images, labels)
        self._factor_names = factors
        self._channels = channels
        self._range = range

    @property
    def name(self) -> str:
        """Name of the file."""
        return f"arrays {self._path.name}"

    def fingerprint(self) -> str:
        """The arguments, and location, size and times of the file."""
        try:
            stat = self._path.stat()
        except OSError as error:
            raise DataError(f"{self._path}: cannot be read ({error.strerror or error})") from error
        place = f"{self._path.resolve()} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"
        return f"{place} {self._wanted} {self._factor_names} {self._channels} {self._range}"

    @property
    def value_range(self) -> tuple[float, float] | None:
        """The configured range."""
        return self._range

    def survey(self, progress: Progress | None = None, *, sizes: bool = True) -> Survey:
        """From the header."""
        axis = self._channel_axis
        shape = list(self._stored[0].shape[1:])
        depth = 1 if axis is None else shape.pop(axis)
        return Survey(tuple(shape), depth, self._kind)

    def listing(self) -> Listing:
        """The rows with their labels and parts."""
        columns: dict[str, Column] = {}
        if self._labels:
            columns["class"] = _classes(self._labels, np.diff(self._starts), self._path)
        factors = self._beside_images(_FACTORS)
        if self._factor_names is not None and not factors:
            raise DataError(f"{self._path}: factors are named, but there is no array {' or '.join(_FACTORS)}")
        columns |= factor_columns(factors, np.diff(self._starts).tolist(), self._factor_names, str(self._path))
        parts = None
        if self._parts:
            counts = [array.shape[0] for array in self._stored]
            parts = np.repeat(np.array([_part_of(name, ("", *_IMAGES)) for name in self._parts], np.int8), counts)
        names = [f"{row:06d}" for row in np.arange(self._starts[-1])]
        return Listing(names, columns, "class" if self._labels else None, parts, notes=self._notes)

    def record(self, index: int, near: tuple[int, ...]) -> Record:
        """One row."""
        block = int(np.searchsorted(self._starts, index, side="right")) - 1
        values: NDArray[Any] = np.asarray(self._values[block][index - self._starts[block]])
        values = values.astype(values.dtype.newbyteorder("="), copy=False)
        axis = self._channel_axis
        values = values[..., None] if axis is None else np.moveaxis(values, axis, -1)
        mask = None if not self._mask_values else self._mask_values[block][index - self._starts[block]]
        return Record(np.ascontiguousarray(values), values.shape[:-1], content_digest(values), mask=mask)

    @property
    def _notes(self) -> list[str]:
        """Notes on guesses, and on arrays that were not read."""
        notes = []
        shape, axis = self._stored[0].shape[1:], self._channel_axis
        small = [place for place, size in enumerate(shape) if size <= _FEW]
        plain = len(shape) == 1 or (len(shape) == 2 and not small) or (axis is not None and small == [axis])
        if self._channels is None and not plain:
            size = [side for place, side in enumerate(shape) if place != axis]
            depth = "no channel axis" if axis is None else f"{count_text(shape[axis], 'channel')}"
            notes.append(
                f"guess: rows {shape_text(shape)} are taken for {_KINDS[len(size)]} {shape_text(size)} with"
                f" {depth}; set the option `channels: first`, last or none of the source to change this"
            )
        pickled = [name for name, array in self._arrays.items() if array.dtype.hasobject]
        if pickled:
            notes.append(f"{', '.join(pickled)} in {self._path.name} contains Python objects and is not read")
        return notes

    @property
    def _kind(self) -> Kind:
        dtype = self._stored[0].dtype.newbyteorder("=")
        if dtype == np.uint16:
            return "uint16"
        if dtype in (np.uint8, np.bool_):
            return "uint8"
        if np.issubdtype(dtype, np.floating) or (self._range is not None and np.issubdtype(dtype, np.integer)):
            return "float32"
        raise DataError(f"{self._path}: values of type {dtype} have no default range. Set the option `range`")

    @property
    def _channel_axis(self) -> int | None:
        """The channel axis of a row."""
        shape = self._stored[0].shape[1:]
        if self._channels == "none" or (self._channels is None and len(shape) < 3):
            return None
        if self._channels is not None:
            if len(shape) == 1:
                raise DataError(
                    f"{self._path}: channels: {self._channels} leaves no axis of rows of {shape[0]} values. "
                    "Set the option `channels: none`"
                )
            return 0 if self._channels == "first" else len(shape) - 1
        return len(shape) - 1 if shape[-1] <= _FEW else 0 if shape[0] <= _FEW or len(shape) > 3 else None

    @cached_property
    def _parts(self) -> tuple[str, ...]:
        """Names of the arrays of official parts."""
        named = {} if self._wanted[0] is not None else {name: _part_of(name, ("", *_IMAGES)) for name in self._arrays}
        parts = sorted((part, name) for name, part in named.items() if part is not None)
        for (part, name), (other_part, other) in itertools.pairwise(parts):
            if part == other_part:
                raise DataError(f"{self._path}: {name} and {other} are both images of one part: name one, as `images`")
        return tuple(name for _, name in parts)

    @cached_property
    def _arrays(self) -> dict[str, StoredArray]:
        return {"images": open_npy(self._path)} if self._path.suffix.lower() == ".npy" else open_npz(self._path)

    @cached_property
    def _stored(self) -> list[StoredArray]:
        """The arrays of images."""
        if self._parts:
            found = [self._arrays[part] for part in self._parts]
        else:
            read = [name for name, array in self._arrays.items() if not array.dtype.hasobject]
            known = _named(_IMAGES, read)
            only = (read or list(self._arrays))[:1] if len(read) <= 1 else []
            wanted = self._wanted[0] or next(iter(known + only), "")
            if not wanted:
                raise DataError(
                    f"{self._path}: holds the arrays {', '.join(read)}: say which is the array of images, as in"
                    f" {{arrays: {{path: ..., images: {read[0]}}}}}"
                )
            if wanted not in self._arrays:
                raise DataError(f"{self._path}: {unknown_message('array of images', wanted, self._arrays)}")
            found = [self._arrays[wanted]]
        first = found[0]
        pickled = next((name for name, array in self._arrays.items() if array in found and array.dtype.hasobject), None)
        if pickled is not None:
            raise DataError(f"{self._path}: {pickled} contains Python objects, which are not unpickled")
        if not 2 <= len(first.shape) <= 5 or 0 in first.shape:
            raise DataError(f"{self._path}: an array of shape {shape_text(first.shape)} is not a list of images")
        if any(array.shape[1:] != first.shape[1:] or array.dtype != first.dtype for array in found):
            raise DataError(f"{self._path}: its parts have different shapes or types")
        return found

    @cached_property
    def _labels(self) -> Sequence[StoredArray | None]:
        """The labels of each array of images; None without labels."""
        wanted = self._wanted[1]
        if wanted is not None and wanted not in self._arrays:
            raise DataError(f"{self._path}: {unknown_message('array of labels', wanted, self._arrays)}")
        if wanted is not None and self._arrays[wanted].dtype.hasobject:
            raise DataError(f"{self._path}: {wanted} contains Python objects, which are not unpickled")
        return self._beside_images(_LABELS, wanted)

    def _beside_images(self, words: Sequence[str], wanted: str | None = None) -> Sequence[StoredArray | None]:
        """The array of one of some names for each array of images; empty if there is none."""
        read = {name: array for name, array in self._arrays.items() if not array.dtype.hasobject}
        if self._parts:
            by_part = {_part_of(name, words): array for name, array in read.items()}
            found: list[StoredArray | None] = [by_part.get(_part_of(name, ("", *_IMAGES))) for name in self._parts]
            return found if any(found) else []
        return [read[name] for name in ([wanted] if wanted else _named(words, read))][:1]

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        """The first index of each array, followed by the number of images."""
        return np.cumsum([0, *(array.shape[0] for array in self._stored)])

    @property
    def has_masks(self) -> bool:  # type: ignore[override]  # read from the file
        """Whether there is an array of masks."""
        return bool(self._beside_images(_MASKS))

    @cached_property
    def _mask_values(self) -> list[NDArray[Any]]:
        """(image, *sizes) weights of the pixels for each array of images; empty without masks."""
        found = []
        axis = self._channel_axis
        for array, images in zip(self._beside_images(_MASKS), self._stored, strict=False):
            shape = [images.shape[0], *(side for place, side in enumerate(images.shape[1:]) if place != axis)]
            if array is None or list(array.shape) != shape or array.dtype.kind not in "bf":
                got = "none" if array is None else f"{shape_text(array.shape)} {array.dtype}"
                raise DataError(f"{self._path}: masks must be booleans or floats, {shape_text(shape)}, got {got}")
            found.append(array.read())
        return found

    @cached_property
    def _values(self) -> list[NDArray[Any]]:
        return [array.read() for array in self._stored]


def _named(words: Sequence[str], names: Collection[str]) -> list[str]:
    """The names that are one of some words in any case, in the order of the words."""
    return [name for word in words for name in names if name.lower() == word]


def _part_of(name: str, words: Collection[str]) -> int | None:
    """The official part that an array's name says beside one of some words, such as `x_train`; None if it does not."""
    head, _, rest = name.lower().partition("_")
    start, _, tail = name.lower().rpartition("_")
    return next(
        (PART_NAMES[part] for part, word in ((head, rest), (tail, start)) if word in words and part in PART_NAMES), None
    )


def _classes(arrays: Sequence[StoredArray | None], counts: NDArray[np.int64], path: Path) -> Column:
    """The labels as class numbers, from integers or class names; -1 if missing."""
    given = [array for array in arrays if array is not None]
    for each in given:
        is_whole = each.dtype.kind in "iub"
        if math.prod(each.shape[1:]) != 1 or not (is_whole or each.dtype.kind in "US"):
            raise DataError(
                f"{path}: labels must be one integer or string per image, got {shape_text(each.shape)} {each.dtype}"
            )
    named = any(array.dtype.kind in "US" for array in given)
    values: list[Any] = []
    for array, count in zip(arrays, counts.tolist(), strict=True):
        found = [None] * count if array is None else array.read().reshape(-1).tolist()
        if len(found) != count:
            raise DataError(f"{path}: contains {count_text(len(found), 'label')} for {count_text(count, 'image')}")
        values += found
    if named:
        return numbered([_text(value) for value in values])
    largest = max((value for value in values if value is not None), default=0)
    smallest = min((value for value in values if value is not None), default=0)
    if smallest < -1:
        raise DataError(f"{path}: labels are class numbers from 0, or -1 if missing, got {smallest}")
    if largest > np.iinfo(np.int64).max:
        raise DataError(f"{path}: labels are class numbers below 2⁶³, got {largest}")
    return Column(np.array([-1 if value is None else int(value) for value in values], np.int64))


def _text(value: Any) -> str:
    """A class's name; empty for none."""
    return "" if value is None else value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)
