"""Arrays in a .npy or .npz file: images, signals or volumes."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from convae.core.errors import DataError
from convae.core.names import shape_text, unknown
from convae.core.progress import Progress
from convae.data.arrays import StoredArray, open_npy, open_npz
from convae.data.identity import content_digest
from convae.data.labels import PART_NAMES
from convae.data.pixels import Kind, Pixels
from convae.data.places import Places
from convae.data.sources.base import Column, Listing, Record, Source, Survey

_IMAGES = ("images", "x", "data", "signals", "volumes", "arr_0")
_LABELS = ("labels", "label", "y", "targets")
_FEW = 4
"""So many values along an axis at most make it one of channels, where nothing else is said."""


class Arrays(Source):
    """The rows of an array, each an image (2-D), a signal (1-D) or a volume (3-D).

    A .npz file holds the images as `images`, `x` or `data`, or else as its only array, and the labels as `labels` or
    `y`; or one array for each official part, as `train`, `valid` and `test`, with labels in `train_labels` and so
    on. Values are stored as they are: unsigned integers of 8 or 16 bits, or floats in [0, 1]; booleans become 0 and
    255. Values of any other type or range need `range`.

    Args:
        places: not used.
        path: the file.
        images: the array of a .npz file that holds the images, where its name is another.
        labels: the array that holds class numbers, where its name is another.
        channels: whether the axis of channels is the first or last of an image, or there is none. By default, a
            last or first axis of at most four values is one, in arrays of at least four axes.
        range: the values that become 0 and 1; what lies outside is refused.
    """

    def __init__(
        self,
        places: Places,
        *,
        path: Path,
        images: str | None = None,
        labels: str | None = None,
        channels: Literal["first", "last", "none"] | None = None,
        range: tuple[float, float] | None = None,
    ) -> None:
        super().__init__(places)
        self._path = path.expanduser()
        self._wanted = (images, labels)
        self._channels = channels
        self._range = range

    @property
    def name(self) -> str:
        """The file's name."""
        return f"arrays {self._path.name}"

    def fingerprint(self) -> str:
        """The arguments, and place, size and times of the file."""
        try:
            stat = self._path.stat()
        except OSError as error:
            raise DataError(f"{self._path}: cannot be read ({error.strerror or error})") from error
        place = f"{self._path.resolve()} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"
        return f"{place} {self._wanted} {self._channels} {self._range}"

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
            columns["class"] = Column(np.concatenate([_classes(array, self._path) for array in self._labels]))
            if len(columns["class"].values) != self._starts[-1]:
                raise DataError(
                    f"{self._path}: holds {len(columns['class'].values)} labels for {self._starts[-1]} images"
                )
        parts = None
        if self._parts:
            counts = [array.shape[0] for array in self._stored]
            parts = np.repeat(np.array([PART_NAMES[part] for part in self._parts], np.int8), counts)
        names = [f"{row:06d}" for row in np.arange(self._starts[-1])]
        return Listing(names, columns, "class" if columns else None, parts)

    def record(self, index: int, near: tuple[int, ...]) -> Record:
        """One row."""
        block = int(np.searchsorted(self._starts, index, side="right")) - 1
        values: NDArray[Any] = np.asarray(self._values[block][index - self._starts[block]])
        axis = self._channel_axis
        values = values[..., None] if axis is None else np.moveaxis(values, axis, -1)
        return Record(self._converted(values), values.shape[:-1], content_digest(values))

    @property
    def _kind(self) -> Kind:
        dtype = self._stored[0].dtype
        if self._range is not None or np.issubdtype(dtype, np.floating):
            return "float32"
        if dtype == np.uint16:
            return "uint16"
        if dtype in (np.uint8, np.bool_):
            return "uint8"
        raise DataError(f"{self._path}: values of type {dtype} have no range of their own: give `range`")

    def _converted(self, values: NDArray[Any]) -> Pixels:
        if self._range is not None:
            low, high = self._range
            values = ((values - low) / (high - low)).astype(np.float32)
        if np.issubdtype(values.dtype, np.floating):
            if not np.all((values >= 0) & (values <= 1)):
                if np.isnan(values).any():
                    raise DataError("holds values that are no numbers (NaN)")
                place = "[0, 1]: give `range`" if self._range is None else f"the range {list(self._range)}"
                raise DataError(f"holds values outside {place}")
            return np.ascontiguousarray(values, np.float32)
        if values.dtype == np.bool_:
            return values.astype(np.uint8) * np.uint8(255)
        return np.ascontiguousarray(values, self._kind)

    @property
    def _channel_axis(self) -> int | None:
        """Which axis of a row counts channels."""
        shape = self._stored[0].shape[1:]
        if self._channels == "none" or (self._channels is None and len(shape) < 3):
            return None
        if self._channels is not None:
            return 0 if self._channels == "first" else len(shape) - 1
        return len(shape) - 1 if shape[-1] <= _FEW else 0 if shape[0] <= _FEW or len(shape) > 3 else None

    @cached_property
    def _parts(self) -> tuple[str, ...]:
        """The names of the arrays that are official parts."""
        named = [name for name in self._arrays if name.lower() in PART_NAMES]
        return tuple(sorted(named, key=lambda name: PART_NAMES[name.lower()])) if self._wanted[0] is None else ()

    @cached_property
    def _arrays(self) -> dict[str, StoredArray]:
        return {"images": open_npy(self._path)} if self._path.suffix == ".npy" else open_npz(self._path)

    @cached_property
    def _stored(self) -> list[StoredArray]:
        """The arrays of images, one after the other."""
        if self._parts:
            found = [self._arrays[part] for part in self._parts]
        else:
            known = [name for name in (self._wanted[0] or "", *_IMAGES) if name in self._arrays]
            only = list(self._arrays) if len(self._arrays) == 1 else []
            if not known + only or (self._wanted[0] is not None and self._wanted[0] not in self._arrays):
                raise DataError(f"{self._path}: {unknown('array of images', self._wanted[0] or '', self._arrays)}")
            found = [self._arrays[(known + only)[0]]]
        first = found[0]
        if not 2 <= len(first.shape) <= 5 or 0 in first.shape:
            raise DataError(f"{self._path}: an array of shape {shape_text(first.shape)} is no list of images")
        if any(array.shape[1:] != first.shape[1:] or array.dtype != first.dtype for array in found):
            raise DataError(f"{self._path}: its parts have several shapes or types")
        return found

    @cached_property
    def _labels(self) -> list[StoredArray]:
        wanted = self._wanted[1]
        if wanted is not None and wanted not in self._arrays:
            raise DataError(f"{self._path}: {unknown('array of labels', wanted, self._arrays)}")
        if self._parts:
            return [self._arrays[f"{part}_labels"] for part in self._parts if f"{part}_labels" in self._arrays]
        return [self._arrays[name] for name in (wanted or "", *_LABELS) if name in self._arrays][:1]

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        """The index at which each array begins, and last the number of images."""
        return np.cumsum([0, *(array.shape[0] for array in self._stored)])

    @cached_property
    def _values(self) -> list[NDArray[Any]]:
        return [array.read() for array in self._stored]


def _classes(array: StoredArray, path: Path) -> NDArray[np.int64]:
    """Class numbers, -1 where one is missing."""
    if len(array.shape) != 1 or not (np.issubdtype(array.dtype, np.integer) or array.dtype == np.bool_):
        raise DataError(f"{path}: labels need one whole number an image, got {shape_text(array.shape)} {array.dtype}")
    return array.read().astype(np.int64)
