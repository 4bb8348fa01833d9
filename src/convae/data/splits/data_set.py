"""A data set: its source decoded into a store, and its splits."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, get_args

import numpy as np

from convae.core.errors import ConfigError, DataError
from convae.core.names import count_text, shape_text, unknown_message
from convae.core.progress import Progress
from convae.data.config import DataConfig
from convae.data.data_dirs import find_data_dirs
from convae.data.sources import open_source
from convae.data.sources.base import Source
from convae.data.splits.division import divide
from convae.data.splits.split import UNCHANGED, Split, SplitName
from convae.data.store.cache import open_store, survey
from convae.data.store.store import ImageFormat, Store


class DataSet:
    """A data set, decoded into its store, with its splits.

    Args:
        config: data configuration.
        source: name of the data set.
        store: store of the images.
        label: column of the label.
        notes: notes on the images for the user, one sentence each.
    """

    def __init__(
        self, config: DataConfig, source: str, store: Store, label: str | None, notes: Sequence[str] = ()
    ) -> None:
        self._config, self._source, self._store, self._label, self._notes = config, source, store, label, notes
        self._division = divide(store.identities, store.parts, config.validation, config.test, config.split_seed)

    def split(self, name: SplitName) -> Split:
        """Takes a split.

        Raises:
            DataError: the split has no images.
        """
        config, store, source = self._config, self._store, self._source
        missing = config.missing_values(stored=True)
        same: dict[str, Any] = {"notes": self._notes, "missing": missing, "binarize": config.binarize}
        if name == "all":
            parts = np.empty(len(store), object)
            for part, held in self._division.rows.items():
                parts[held] = part
            rows = np.arange(len(store))
            kinds = parts.tolist()
            return Split(name, source, store, rows, "all", self._label, parts=kinds, **same)
        rows = self._division.rows[name]
        if not len(rows):
            fraction = getattr(config, name) if name != "train" else 0
            cause = "all are held out" if name == "train" else f"data.{name} is {fraction}"
            remedy = f". Set data.{name}=0 to train without it" if fraction and name == "validation" else ""
            raise DataError(
                f"{source}: no {name} images among its {count_text(len(store), 'image')}, because {cause}{remedy}"
            )
        augment = config.augment if name == "train" else UNCHANGED
        chosen = self._division.chosen[name]
        return Split(name, source, store, rows, chosen, self._label, augment, **same)

    @cached_property
    def split_facts(self) -> dict[str, dict[str, Any]]:
        """Number of images, choice and content hash of each non-empty split."""
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
    """Opens a split of a data set; see `open_data_set`.

    Args:
        config: data configuration.
        split: `train`, `validation`, `test` or `all`.
        size: spatial sizes, if `config` has none and the images differ in size.
        channels: number of channels, under the same condition.
        progress: called while the store is built.

    Raises:
        ConfigError: unknown data set or split, or invalid arguments.
        DataError: the data set is missing, damaged or empty, has no such split, or has images of several sizes.
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
    """Opens a data set; the first call decodes all of it into the store.

    Args:
        config: data configuration.
        size: spatial sizes, if `config` has none and the images differ in size.
        channels: number of channels, under the same condition.
        progress: called while the store is built.

    Raises:
        ConfigError: unknown data set, or invalid arguments.
        DataError: the data set is missing, damaged or empty, or has images of several sizes.
        OutputError: the cache cannot be written.
    """
    source = open_source(config.source, find_data_dirs(config.dir, config.download))
    return open_source_data(source, config, size=size, channels=channels, progress=progress)


def open_source_data(
    source: Source,
    config: DataConfig,
    *,
    size: tuple[int, ...] | None = None,
    channels: int | None = None,
    progress: Progress | None = None,
) -> DataSet:
    """Opens a data set whose source is given as an object; see `open_data_set`."""
    source.prepare(progress)
    fingerprint = source.fingerprint()
    # Two numbers fit every image; any other number of axes must match the images.
    asked = config.size is None or len(config.size) != 2
    own = survey(source, fingerprint, progress, sizes=asked)
    sizes = config.size or own.size or size
    depth = config.channels or own.channels or channels
    if sizes is None or depth is None:
        raise DataError(f"{source.name}: the images have several sizes. Set data.size, such as data.size=[64, 64]")
    if own.size is not None and len(sizes) != len(own.size):
        raise DataError(f"{source.name}: data.size is {shape_text(sizes)}, but the images are {shape_text(own.size)}")
    notes = []
    if config.size is None and own.size is None:
        notes.append(f"images of several sizes are resized to {shape_text(sizes)}; change it with data.size")
    missing = None if isinstance(config.missing, float) else config.missing
    if missing == "alpha":
        if config.channels not in (None, 3) or own.kind != "uint8":
            raise ConfigError("data.missing: alpha needs colors of 8 bits. Set data.channels: 3")
        depth = 3
    if missing == "mask" and not source.has_masks:
        raise DataError(f"{source.name}: has no array of masks. Set data.missing: nan, alpha or null")
    image_format = ImageFormat(sizes, depth, config.resize_mode, own.kind, missing, config.interpolation)
    store = open_store(source, fingerprint, image_format, progress)
    if config.size is None and own.size is not None:  # which a survey of some images may have missed
        others = int((store.original_sizes != np.array(sizes)).any(1).sum())
        if others:
            notes.append(
                f"resizing {count_text(others, 'image')} of other sizes to {shape_text(sizes)}. Set data.size to "
                "change it"
            )
    label = config.label or store.label
    if label is not None and label not in store.columns:
        raise ConfigError(
            f"data.label: {source.name}: {unknown_message('column', label, store.columns or ['nothing'])}"
        )
    return DataSet(config, source.name, store, label, notes)
