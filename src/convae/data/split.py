"""A split: the images of one part of a data set, ready to be gathered."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Shaped, UInt8
from numpy.typing import NDArray
from torch import Tensor

from convae.core.errors import ConfigError, DataError
from convae.core.names import shape_text, unknown_message
from convae.core.progress import Progress
from convae.core.types import Shape
from convae.data.augment import AugmentConfig
from convae.data.cache import open_store, survey
from convae.data.config import DataConfig
from convae.data.data_dirs import find_data_dirs
from convae.data.division import divide
from convae.data.pixels import LEVELS, Kind
from convae.data.ranges import range_notes
from convae.data.sources import open_source
from convae.data.store import ImageFormat, Store

_UNCHANGED = AugmentConfig()
SplitName = Literal["train", "validation", "test", "all"]


class Split:
    """The images of one part of a data set, in a fixed order, in a memory map.

    Attributes:
        columns: what is known of the images, by name: class numbers and the classes' names.
        labels: (images,) class numbers of the column that counts as the label, -1 where one is missing; or None.
        classes: the names of these classes, where there are names.
        skipped: (name, reason) of each image of the data set that could not be read.
        facts: (images,) what each image was in its file: bits, smallest and largest value, pages left out.
        augment: what happens to the images in training at random; nothing to those that are not for training.

    Args:
        name: `train`, `validation`, `test` or `all`.
        source: the data set's name.
        store: where the images lie.
        rows: (images,) the split's images in the store, ascending.
        chosen: how the split came about, for reports: `official`, or the shares and the seed.
        label: the column that counts as the label.
        augment: what happens to the images in training.
        parts: what part each image is in, where the split is all of them.
        notes: what a person should know of how the images came to be these, a sentence each.
    """

    def __init__(
        self,
        name: SplitName,
        source: str,
        store: Store,
        rows: NDArray[np.int64],
        chosen: str,
        label: str | None = None,
        augment: AugmentConfig = _UNCHANGED,
        parts: Sequence[str] | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.augment = augment
        self.source = source
        self.columns = {key: column[rows] for key, column in store.columns.items()}
        labeled = None if label is None else self.columns[label]
        self.labels: NDArray[np.int64] | None = None if labeled is None else labeled.values
        self.classes = None if labeled is None else labeled.classes
        self.skipped = store.skipped
        self.facts: NDArray[Any] = store.facts[rows]
        self._store = store
        self._rows = rows
        self._image_format = store.image_format
        self._chosen = chosen
        self._parts = parts
        self._notes = notes

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def total(self) -> int:
        """Images of the whole data set that could be read, whatever part they are in."""
        return len(self._store)

    def with_labels(self, labels: NDArray[np.int64], classes: tuple[str, ...] | None) -> Split:
        """The same images with other labels: (images,) class numbers, and the classes' names."""
        other = copy.copy(self)
        other.labels, other.classes = labels, classes
        other.__dict__.pop("content_hash", None)  # it is of the labels, too
        return other

    def as_other_data(self) -> Split:
        """The same images as none of the data set that a model was trained on: their part is `new`."""
        other = copy.copy(self)
        other._parts = ["new"] * len(self)  # noqa: SLF001  # a copy of this object
        return other

    @property
    def shape(self) -> Shape:
        """(channels, *sizes) of every image."""
        return (self._image_format.channels, *self._image_format.size)

    @property
    def folder(self) -> Path:
        """Where the decoded images lie, and `skipped.csv`, the list of those that could not be read."""
        return self._store.folder

    @property
    def kind(self) -> Kind:
        """The type of the stored values."""
        return self._image_format.kind

    @property
    def levels(self) -> int | None:
        """How many evenly spaced levels a value can have, of 8 or 16 bits; None for floats."""
        return LEVELS[self._image_format.kind]

    @property
    def image_bytes(self) -> int:
        """Bytes of one stored image."""
        return self._image_format.image_bytes

    @property
    def original_sizes(self) -> NDArray[np.int64]:
        """(images, axes) spatial sizes of the images before they were brought to this one."""
        return self._store.original_sizes[self._rows]

    def images(
        self, indices: NDArray[np.int64] | Sequence[int], out: UInt8[Tensor, "batch bytes"] | None = None
    ) -> Shaped[Tensor, "batch channel *sizes"]:
        """The stored values at `indices`, copied once; in torch's channels_last layout, because they lie so.

        `to_unit` makes images of them, that is floats in [0, 1].

        Args:
            indices: positions in the split.
            out: memory to copy into, `image_bytes` for each image; otherwise new memory.

        Raises:
            IndexError: there is no such position.
            DataError: the disk does not hold what was written.
        """
        return self._store.gather(self._rows[np.asarray(indices, np.int64)], out)

    def key(self, index: int) -> str:
        """The name of an image, such as its path within a folder."""
        return self._store.names[int(self._rows[index])]

    def part(self, index: int) -> str:
        """The part of the data set that an image is in: `train`, `validation` or `test`, or `new` in other data."""
        return self.name if self._parts is None else self._parts[index]

    @property
    def keys(self) -> list[str]:
        """The names of all images."""
        return [self._store.names[row] for row in self._rows]

    @property
    def identities(self) -> NDArray[np.uint8]:
        """(images, 16) digest of each image's content as the source holds it, whatever size it was brought to."""
        return self._store.identities[self._rows]

    @property
    def digests(self) -> NDArray[np.uint8]:
        """(images, 32) SHA-256 of each image's values as they are stored."""
        return self._store.digests[self._rows]

    @property
    def notes(self) -> list[str]:
        """What a person should know of the data before trusting a figure, a sentence each."""
        return [*self._notes, *self._store.notes, *range_notes(self.facts, self.source, self.kind, self.key)]

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 (hex) of shape, pixels and labels, in the split's order; where the files lie plays no part."""
        total = hashlib.sha256(repr((self.shape, len(self))).encode())
        total.update(self._store.digests[self._rows].tobytes())
        if self.labels is not None:
            total.update(self.labels.astype("<i8").tobytes())
        return total.hexdigest()

    def describe(self) -> dict[str, Any]:
        """The facts that a figure measured on this split has to be published with."""
        return {
            "source": self.source,
            "split": self.name,
            "chosen": self._chosen,
            "count": len(self),
            "channels": self._image_format.channels,
            "size": list(self._image_format.size),
            "resize_mode": self._image_format.resize_mode,
            "skipped": len(self.skipped),
            "content_hash": self.content_hash,
        }


class DataSet:
    """A data set, decoded into its store, of which splits are taken.

    Args:
        config: which data, held out how.
        source: the data set's name.
        store: where the images lie.
        label: the column that counts as the label.
        notes: what a person should know of how the images came to be these, a sentence each.
    """

    def __init__(
        self, config: DataConfig, source: str, store: Store, label: str | None, notes: Sequence[str] = ()
    ) -> None:
        self._config, self._source, self._store, self._label, self._notes = config, source, store, label, notes
        self._division = divide(store.identities, store.parts, config.validation, config.test, config.split_seed)

    def split(self, name: SplitName) -> Split:
        """The images of one part.

        Raises:
            DataError: there are none.
        """
        config, store, source = self._config, self._store, self._source
        if name == "all":
            parts = np.empty(len(store), object)
            for part, held in self._division.rows.items():
                parts[held] = part
            rows = np.arange(len(store))
            return Split(name, source, store, rows, "all", self._label, parts=parts.tolist(), notes=self._notes)
        rows = self._division.rows[name]
        if not len(rows):
            share = getattr(config, name) if name != "train" else 0
            remedy = "all are held out" if name == "train" else f"data.{name} is {share}"
            remedy += f", and data.{name}=0 does without" if share and name == "validation" else ""
            raise DataError(f"{source}: no {name} images among its {len(store)}: {remedy}")
        augment = config.augment if name == "train" else _UNCHANGED
        return Split(name, source, store, rows, self._division.chosen[name], self._label, augment, notes=self._notes)

    @cached_property
    def split_facts(self) -> dict[str, dict[str, Any]]:
        """Of each part that has images: how many, how they were chosen, and the SHA-256 of their content."""
        kept = ("chosen", "count", "content_hash")
        names: tuple[SplitName, ...] = ("train", "validation", "test")
        found = {name: self.split(name).describe() for name in names if len(self._division.rows[name])}
        return {name: {key: facts[key] for key in kept} for name, facts in found.items()}


def open_split(
    config: DataConfig,
    split: SplitName,
    *,
    size: tuple[int, ...] | None = None,
    channels: int | None = None,
    progress: Progress | None = None,
) -> Split:
    """The images of one part of a data set, as `open_data_set` has them.

    Args:
        config: which data, brought to what, held out how.
        split: `train`, `validation`, `test`, or `all` of them together.
        size: spatial sizes where `config` has none and the images share none.
        channels: as `size`, for the number of channels.
        progress: told how far the building of the store is.

    Raises:
        ConfigError: no such data set or split, or wrong arguments of the data set.
        DataError: the data set is missing, damaged or empty, has no such split, or has no size of its own.
        OutputError: the cache cannot be written.
    """
    if split not in get_args(SplitName):
        raise ConfigError(unknown_message("split", split, get_args(SplitName)))
    return open_data_set(config, size=size, channels=channels, progress=progress).split(split)


def open_data_set(
    config: DataConfig,
    *,
    size: tuple[int, ...] | None = None,
    channels: int | None = None,
    progress: Progress | None = None,
) -> DataSet:
    """A data set; the first call decodes all of it into the store.

    Args:
        config: which data, brought to what, held out how.
        size: spatial sizes where `config` has none and the images share none.
        channels: as `size`, for the number of channels.
        progress: told how far the building of the store is.

    Raises:
        ConfigError: no such data set, or wrong arguments of the data set.
        DataError: the data set is missing, damaged or empty, or has no size of its own.
        OutputError: the cache cannot be written.
    """
    source = open_source(config.source, find_data_dirs(config.dir, config.download))
    source.prepare(progress)
    fingerprint = source.fingerprint()
    # Two numbers fit every image; any other count is held against the images' own.
    asked = config.size is None or len(config.size) != 2
    own = survey(source, fingerprint, progress, sizes=asked)
    sizes = config.size or own.size or size
    depth = config.channels or own.channels or channels
    if sizes is None or depth is None:
        raise DataError(f"{source.name}: its images have several sizes: set data.size, such as data.size=[64, 64]")
    if own.size is not None and len(sizes) != len(own.size):
        raise DataError(f"{source.name}: data.size is {shape_text(sizes)}, but its images are {shape_text(own.size)}")
    notes = []
    if config.size is None and own.size is None:
        notes.append(f"images of several sizes are brought to {shape_text(sizes)}: data.size sets another size")
    store = open_store(source, fingerprint, ImageFormat(sizes, depth, config.resize_mode, own.kind), progress)
    label = config.label or store.label
    if label is not None and label not in store.columns:
        raise ConfigError(
            f"data.label: {source.name}: {unknown_message('column', label, store.columns or ['nothing'])}"
        )
    return DataSet(config, source.name, store, label, notes)
