"""Training data passed as objects: arrays, tensors and map-style datasets."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped, UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from convae.core.errors import ConfigError, DataError
from convae.core.names import shape_text
from convae.core.types import Shape
from convae.data.augment import AugmentConfig
from convae.data.config import DataConfig
from convae.data.division import divide
from convae.data.pixels import LEVELS, as_kind
from convae.data.sources import GIVEN

SAMPLED = 64
"""Number of items in the digest of a dataset."""


class GivenImages:
    """A split of an array or a dataset, as an `ImageSet`.

    Args:
        items: the array, (images, channels, *sizes), or the dataset.
        rows: (images,) positions of the images of this split.
        name: name of the split.
        chosen: how the split was chosen.
        labels: (all images,) class numbers; None without labels.
        augment: data augmentation.
    """

    source = "data given as objects"
    classes: tuple[str, ...] | None = None
    skipped: Sequence[tuple[str, str]] = ()
    folder = Path()

    def __init__(
        self,
        items: _Items,
        rows: NDArray[np.int64],
        name: str,
        chosen: str,
        labels: NDArray[np.int64] | None,
        augment: AugmentConfig,
    ) -> None:
        self._items, self._rows, self._chosen = items, rows, chosen
        self.name, self.augment = name, augment
        self.labels = None if labels is None else labels[rows]
        self.shape: Shape = items.shape
        self.levels = LEVELS[items.kind]
        self.image_bytes = int(np.prod(items.shape)) * np.dtype(items.kind).itemsize
        self.notes: list[str] = []

    def __len__(self) -> int:
        return len(self._rows)

    def images(
        self, indices: NDArray[np.int64] | Sequence[int], out: UInt8[Tensor, "batch bytes"] | None = None
    ) -> Shaped[Tensor, "batch channel *sizes"]:
        """The values at `indices`, in torch's channels_last layout; `out` is not used."""
        del out
        return self._items.read(self._rows[np.asarray(indices, np.int64)])

    def describe(self) -> dict[str, Any]:
        """The facts that a metric measured on these images has to be published with."""
        digest = hashlib.sha256(self._rows.astype("<i8").tobytes() + self._items.digest().encode()).hexdigest()
        return {
            "source": GIVEN,
            "split": self.name,
            "chosen": self._chosen,
            "count": len(self),
            "channels": self.shape[0],
            "size": list(self.shape[1:]),
            "content_hash": digest,
        }


class _Items:
    """Items with random access, of one shape and type."""

    kind: Any
    shape: Shape

    def __len__(self) -> int:
        raise NotImplementedError

    def read(self, positions: NDArray[np.int64]) -> Tensor:
        """(batch, channel, *sizes) values at these positions."""
        raise NotImplementedError

    def digest(self) -> str:
        """SHA-256 (hex) of the values."""
        raise NotImplementedError

    def identities(self) -> NDArray[np.uint8]:
        """(images, 16) digest of each image, from which the split is chosen."""
        raise NotImplementedError


class _Array(_Items):
    """An array in memory."""

    def __init__(self, values: NDArray[Any]) -> None:
        if values.dtype not in (np.uint8, np.uint16):
            values = as_kind(values, "uint8" if values.dtype == np.bool_ else "float32")
        self._values = values
        self.kind, self.shape = values.dtype.name, tuple(values.shape[1:])

    def __len__(self) -> int:
        return len(self._values)

    def read(self, positions: NDArray[np.int64]) -> Tensor:
        return _channels_last(torch.from_numpy(self._values[positions]))

    def digest(self) -> str:
        total = hashlib.sha256(repr((self.kind, self._values.shape)).encode())
        for image in self._values:
            total.update(np.ascontiguousarray(image).data)
        return total.hexdigest()

    def identities(self) -> NDArray[np.uint8]:
        digests = [hashlib.blake2b(np.ascontiguousarray(each).data, digest_size=16).digest() for each in self._values]
        return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 16)


class _Dataset(_Items):
    """A map-style dataset; its items are (channels, *sizes) tensors or arrays, Pillow images, or pairs with a label."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        first = self._values(0)
        self.kind, self.shape = first.dtype.name, tuple(first.shape)

    def __len__(self) -> int:
        return len(self._dataset)

    def read(self, positions: NDArray[np.int64]) -> Tensor:
        found = [self._values(int(position)) for position in positions]
        for position, values in zip(positions, found, strict=True):
            if (values.dtype.name, values.shape) != (self.kind, self.shape):
                raise DataError(
                    f"item {position} of the dataset is {values.dtype.name} of {shape_text(values.shape)}, but item 0 "
                    f"is {self.kind} of {shape_text(self.shape)}. All items must have the same type and shape"
                )
        return _channels_last(torch.from_numpy(np.stack(found)))

    def labels(self) -> NDArray[np.int64] | None:
        """The labels, from the attribute `targets` or `labels`, or from the (image, label) pairs."""
        for name in ("targets", "labels"):
            if (known := getattr(self._dataset, name, None)) is not None and len(known) == len(self):
                return _label_array(known, len(self))
        first = self._dataset[0]
        if not isinstance(first, tuple | list) or len(first) < 2:
            return None
        return _label_array([self._dataset[position][1] for position in range(len(self))], len(self))

    def digest(self) -> str:
        total = hashlib.sha256(repr((self.kind, len(self), self.shape)).encode())
        for position in np.linspace(0, len(self) - 1, min(SAMPLED, len(self))).astype(int):
            total.update(np.ascontiguousarray(self._values(int(position))).data)
        return total.hexdigest()

    def identities(self) -> NDArray[np.uint8]:
        return np.arange(len(self), dtype="<u8").repeat(2).view(np.uint8).reshape(-1, 16)

    def _values(self, position: int) -> NDArray[Any]:
        """(channels, *sizes), one item."""
        item = self._dataset[position]
        if isinstance(item, tuple | list):
            item = item[0]
        if isinstance(item, Image.Image):
            values = np.asarray(item)
            values = values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0)
        else:
            values = _as_array(item, f"item {position} of the dataset")
        if values.ndim < 2:
            raise DataError(f"item {position} of the dataset is not an image: its shape is {tuple(values.shape)}")
        if values.dtype in (np.uint8, np.uint16):
            return values
        return as_kind(values, "uint8" if values.dtype == np.bool_ else "float32")


class GivenData:
    """Images passed as objects, with a training and a validation split.

    Args:
        images: a NumPy array or a tensor, (images, channels, *sizes), of uint8, uint16, booleans or floats in [0, 1];
            or a map-style `torch.utils.data.Dataset` whose items are images of one shape or (image, label) pairs. Items
            must be deterministic.
        labels: (images,) class numbers, -1 if missing; by default those of the dataset.
        validation: held-out images in the same form; by default a fraction `data.validation` of the images.
        channels_last: whether an array is (images, *sizes, channels).

    Raises:
        DataError: invalid data; the message says how to pass it.
    """

    def __init__(self, images: Any, labels: Any = None, *, validation: Any = None, channels_last: bool = False) -> None:
        self._train, self._labels = _opened(images, labels, channels_last)
        pair = isinstance(validation, tuple) and len(validation) == 2
        held, held_labels = validation if pair else (validation, None)
        self._held: _Items | None = None
        self._held_labels: NDArray[np.int64] | None = None
        if held is not None:
            self._held, self._held_labels = _opened(held, held_labels, channels_last)
        if self._held is not None and self._held.shape != self._train.shape:
            raise DataError(
                f"validation: images are {shape_text(self._held.shape)}, but the training images "
                f"{shape_text(self._train.shape)}"
            )
        self._config: DataConfig | None = None

    @property
    def shape(self) -> Shape:
        """(channels, *sizes) of every image."""
        return self._train.shape

    def recorded(self) -> dict[str, Any]:
        """The record of the data in the recipe: number of images, shape, and SHA-256."""
        parts = {"images": self._train, "validation": self._held}
        digests = "".join(each.digest() for each in parts.values() if each is not None)
        digests += "".join(each.tobytes().hex() for each in (self._labels, self._held_labels) if each is not None)
        return {
            **{name: len(each) for name, each in parts.items() if each is not None},
            "shape": list(self.shape),
            "sha256": hashlib.sha256(digests.encode()).hexdigest(),
        }

    def configure(self, config: DataConfig) -> GivenData:
        """Takes the held-out fraction, its seed and the augmentation from the recipe.

        Raises:
            ConfigError: the recipe recorded different data.
        """
        source = config.source
        before = source.get(GIVEN) if isinstance(source, Mapping) else None
        if before != (now := self.recorded()):
            raise ConfigError(f"data: the run was trained on {before}, got {now}. Pass the original data")
        if config.size not in (None, self.shape[1:]) or config.channels not in (None, self.shape[0]):
            raise ConfigError(
                f"data.size and data.channels: not supported for data passed as objects. Resize the images, "
                f"which have the shape {shape_text(self.shape)}, or remove the keys"
            )
        self._config = config
        return self

    def split(self, name: str) -> GivenImages:
        """The images of `train` or `validation`.

        Raises:
            DataError: there are none.
        """
        config = self._config or DataConfig(source={GIVEN: self.recorded()})
        augment = config.augment if name == "train" else AugmentConfig()
        if self._held is not None:
            items, labels = (self._train, self._labels) if name == "train" else (self._held, self._held_labels)
            return GivenImages(items, np.arange(len(items)), name, "given", labels, augment)
        division = divide(self._train.identities(), None, config.validation, 0.0, config.split_seed)
        if not len(rows := division.rows[name]):
            raise DataError(f"data: no {name} images among the {len(self._train)} images passed")
        return GivenImages(self._train, rows, name, division.chosen[name], self._labels, augment)

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


def _opened(images: Any, labels: Any, channels_last: bool) -> tuple[_Items, NDArray[np.int64] | None]:
    """Items and labels of the data."""
    if isinstance(images, torch.utils.data.IterableDataset):
        raise DataError(
            "data: an IterableDataset cannot be resumed at a step. Pass an array or a map-style Dataset with "
            "__len__ and __getitem__"
        )
    if isinstance(images, Tensor | np.ndarray):
        values = _as_array(images, "data")
        items: _Items = _Array(_channels_first(values, channels_last))
        found = None
    elif hasattr(images, "__getitem__") and hasattr(images, "__len__") and not isinstance(images, str | Mapping):
        if not len(images):
            raise DataError("data: the dataset is empty")
        dataset = _Dataset(images)
        items, found = dataset, dataset.labels() if labels is None else None
    else:
        raise DataError(
            f"data: must be a NumPy array, a tensor or a map-style torch Dataset, got {type(images).__name__}. "
            "Write a path or the name of a data set into the recipe"
        )
    return items, found if labels is None else _label_array(labels, len(items))


def _channels_first(values: NDArray[Any], channels_last: bool) -> NDArray[Any]:
    """Checks an array and returns it as (images, channels, *sizes)."""
    if not len(values):
        raise DataError("data: the array is empty")
    if channels_last:
        values = np.moveaxis(values, -1, 1)
    if not 3 <= values.ndim <= 5 or (values.ndim == 3 and values.shape[1] > 4 and not channels_last):
        raise DataError(
            f"data: expected (images, channels, *sizes), got {values.shape}. Pass images without channels as "
            "images[:, None]"
        )
    if values.ndim > 3 and values.shape[-1] in (1, 3, 4) and values.shape[1] > 4:
        raise DataError(f"data: expected (images, channels, *sizes), got {values.shape}. Set channels_last=True")
    return values


def _as_array(values: Any, where: str) -> NDArray[Any]:
    """A tensor or an array as an array on the CPU."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        array: NDArray[Any] = (values.float() if values.dtype is torch.bfloat16 else values).numpy()
        return array
    if isinstance(values, np.ndarray):
        return values.astype(values.dtype.newbyteorder("="), copy=False)
    raise DataError(f"{where}: must be a tensor, an array or a Pillow image, got {type(values).__name__}")


def _label_array(labels: Any, count: int) -> NDArray[np.int64]:
    """(images,) class numbers."""
    found = np.asarray(labels.detach().cpu() if isinstance(labels, Tensor) else labels)
    if found.shape != (count,) or not np.issubdtype(found.dtype, np.integer) or found.min() < -1:
        raise DataError(f"labels: expected {count} class numbers (from 0; -1 is missing), one per image")
    return found.astype(np.int64)


def _channels_last(batch: Tensor) -> Tensor:
    """A batch in torch's channels_last layout."""
    layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
    return batch.contiguous(memory_format=layouts[batch.ndim]) if batch.ndim in layouts else batch
