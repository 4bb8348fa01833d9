"""Training data passed as objects: arrays, tensors and map-style datasets."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt8
from numpy.typing import NDArray
from torch import Tensor

from convae.core.errors import ConfigError, DataError
from convae.core.names import count_text, shape_text
from convae.core.types import Shape
from convae.data.augment import AugmentConfig
from convae.data.binarize import Binarization
from convae.data.config import DataConfig
from convae.data.images.pixels import LEVELS
from convae.data.missing import Missing
from convae.data.sources import GIVEN
from convae.data.splits.division import divide
from convae.data.splits.given_items import Items, open_items


class GivenImages:
    """A split of an array or a dataset, as an `ImageSet`.

    Args:
        items: the array, (images, channels, *sizes), or the dataset.
        rows: (images,) positions of the images of this split.
        name: name of the split.
        chosen: how the split was chosen.
        labels: (all images,) class numbers; None without labels.
        augment: data augmentation.
        missing: how missing values are known; None where all are observed.
    """

    source = "data given as objects"
    classes: tuple[str, ...] | None = None
    skipped: Sequence[tuple[str, str]] = ()
    folder = Path()

    def __init__(
        self,
        items: Items,
        rows: NDArray[np.int64],
        name: str,
        chosen: str,
        labels: NDArray[np.int64] | None,
        augment: AugmentConfig,
        missing: Missing | None = None,
        binarize: Binarization | None = None,
    ) -> None:
        self._items, self._rows, self._chosen = items, rows, chosen
        self.name, self.augment, self.missing, self.binarize = name, augment, missing, binarize
        self.labels = None if labels is None else labels[rows]
        self.shape: Shape = items.shape
        self.levels = 2 if binarize else LEVELS[items.kind]
        self.is_hashed = items.is_hashed
        self.image_bytes = int(np.prod(items.shape)) * np.dtype(items.kind).itemsize

    def __len__(self) -> int:
        return len(self._rows)

    def images(
        self, indices: NDArray[np.int64] | Sequence[int], out: UInt8[Tensor, "batch bytes"] | None = None
    ) -> Shaped[Tensor, "batch channel *sizes"]:
        """The values at `indices`, in torch's channels_last layout; `out` is not used."""
        del out
        return self._items.read(self._rows[np.asarray(indices, np.int64)])

    @cached_property
    def notes(self) -> list[str]:
        """Notes on the data for the user, one sentence each."""
        return self._items.notes()

    @cached_property
    def identities(self) -> NDArray[np.uint8]:
        """(images, 16) digest of each image; of its position in a dataset, whose images are not read for it."""
        return self._items.digests()[self._rows]

    def describe(self) -> dict[str, Any]:
        """The facts that a metric measured on these images has to be published with."""
        total = hashlib.sha256(self._rows.astype("<i8").tobytes() + self._items.digest().encode())
        if self.labels is not None:
            total.update(self.labels.astype("<i8").tobytes())
        return {
            "source": GIVEN,
            "split": self.name,
            "chosen": self._chosen,
            "count": len(self),
            "channels": self.shape[0],
            "size": list(self.shape[1:]),
            "content_hash": total.hexdigest(),
            **({} if self.binarize is None else {"binarize": self.binarize}),
            **({} if self.missing is None else {"missing": self.missing.origin or self.missing.fraction}),
        }


class GivenData:
    """Images passed as objects, with a training and a validation split.

    Args:
        images: a NumPy array or a tensor, (images, channels, *sizes), of uint8, uint16, booleans or floats in [0, 1];
            or a map-style `torch.utils.data.Dataset` whose items are images of one shape or (image, label) pairs. Items
            must be deterministic.
        labels: (images,) class numbers, -1 if missing; by default those of the dataset.
        validation: held-out images in the same form; by default a fraction `data.validation` of the images.
        channels_last: whether an array is (images, *sizes, channels), or those of a dataset (*sizes, channels).

    Raises:
        DataError: invalid data; the message says how to pass it.
    """

    def __init__(self, images: Any, labels: Any = None, *, validation: Any = None, channels_last: bool = False) -> None:
        self._train, self._labels = open_items(images, labels, channels_last)
        pair = isinstance(validation, tuple) and len(validation) == 2
        held, held_labels = validation if pair else (validation, None)
        self._held: Items | None = None
        self._held_labels: NDArray[np.int64] | None = None
        if held is not None:
            self._held, self._held_labels = open_items(held, held_labels, channels_last)
        if self._held is not None and self._held.shape != self._train.shape:
            raise DataError(
                f"validation: images are {shape_text(self._held.shape)}, but the training images "
                f"{shape_text(self._train.shape)}"
            )
        self._config: DataConfig | None = None
        self._first_record: dict[str, Any] | None = None

    @property
    def shape(self) -> Shape:
        """(channels, *sizes) of every image."""
        return self._train.shape

    def recorded(self) -> dict[str, Any]:
        """The record of the data in the recipe: number of images, shape, and SHA-256."""
        parts = {"images": self._train, "validation": self._held}
        digests = "".join(each.digest() for each in parts.values() if each is not None)
        digests += "".join(each.tobytes().hex() for each in (self._labels, self._held_labels) if each is not None)
        record = {
            **{name: len(each) for name, each in parts.items() if each is not None},
            "shape": list(self.shape),
            "sha256": hashlib.sha256(digests.encode()).hexdigest(),
        }
        self._first_record = self._first_record or record
        return record

    def configure(self, config: DataConfig) -> GivenData:
        """Takes the held-out fraction, its seed and the augmentation from the recipe.

        Raises:
            ConfigError: the recipe recorded different data.
            DataError: items of the dataset change.
        """
        source = config.source
        before = source.get(GIVEN) if isinstance(source, Mapping) else None
        if before != (now := self.recorded()):
            if before == self._first_record:
                raise DataError(
                    "data: the items of the dataset change each time they are read. Make them depend on their index "
                    "only, and put random transforms into data.augment"
                )
            raise ConfigError(f"data: the run was trained on {before}, got {now}. Pass the original data")
        if config.size not in (None, self.shape[1:]) or config.channels not in (None, self.shape[0]):
            raise ConfigError(
                f"data.size and data.channels: not supported for data passed as objects. Resize the images, "
                f"which have the shape {shape_text(self.shape)}, or remove the keys"
            )
        if config.missing in ("alpha", "mask"):
            raise ConfigError(f"data.missing: {config.missing} is not supported for data passed as objects. Use nan")
        if config.missing != "nan" and (self._train.has_nan or (self._held is not None and self._held.has_nan)):
            raise ConfigError("data contains NaN. Set data.missing: nan if these values are missing")
        self._config = config
        return self

    def split(self, name: str) -> GivenImages:
        """The images of `train` or `validation`.

        Raises:
            DataError: there are none.
        """
        config = self._config or DataConfig(source={GIVEN: self.recorded()})
        augment = config.augment if name == "train" else AugmentConfig()
        missing = config.missing_values(stored=False)
        if self._held is not None:
            items, labels = (self._train, self._labels) if name == "train" else (self._held, self._held_labels)
            return GivenImages(items, np.arange(len(items)), name, "given", labels, augment, missing, config.binarize)
        division = divide(self._train.identities(), None, config.validation, 0.0, config.split_seed)
        if not len(rows := division.rows[name]):
            raise DataError(f"data: no {name} images among the {count_text(len(self._train), 'image')} passed")
        return GivenImages(
            self._train, rows, name, division.chosen[name], self._labels, augment, missing, config.binarize
        )

    def has_validation(self) -> bool:
        """Whether there are validation images."""
        return self._held is not None or bool(self._config and self._config.validation)

    @property
    def split_facts(self) -> dict[str, dict[str, Any]]:
        """Number of images, choice and SHA-256 of each split."""
        names = ("train", "validation") if self.has_validation() else ("train",)
        kept = ("chosen", "count", "content_hash")
        found = {name: self.split(name).describe() for name in names}
        return {name: {key: facts[key] for key in kept} for name, facts in found.items()}


def given_data(data: Any, labels: Any, validation: Any, channels_last: bool) -> GivenData | None:
    """The data passed to `train` or `resume`; None without.

    Raises:
        ConfigError: labels or validation images without training images.
    """
    if data is None:
        if labels is not None or validation is not None:
            raise ConfigError("labels and validation need data=. Pass the training images as well")
        return None
    return GivenData(data, labels, validation=validation, channels_last=channels_last)


def record_given(recipe: Any, overrides: Sequence[str], given: GivenData) -> tuple[Any, Sequence[str]]:
    """A recipe and overrides that record the data.

    Args:
        recipe: a mapping, a recipe or the path of one.
        overrides: `key.path=value` each.
        given: the data.

    Raises:
        ConfigError: the mapping has a source as well.
    """
    source = {GIVEN: given.recorded()}
    if isinstance(recipe, Mapping):
        written = recipe.get("data") or {}
        if not isinstance(written, Mapping) or "source" in written:
            raise ConfigError("data: given twice, in the recipe and as data=. Leave one of them out")
        return {**recipe, "data": {**written, "source": source}}, overrides
    sizes = [f"data.{name}=null" for name in ("size", "channels")]
    return recipe, [f"data.source={json.dumps(source)}", *sizes, *overrides]
