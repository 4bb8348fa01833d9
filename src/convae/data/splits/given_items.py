"""Arrays, tensors and map-style datasets as items of one shape and type with random access."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from convae.core.errors import DataError
from convae.core.names import shape_text
from convae.core.types import Shape
from convae.data.images.conversion import preprocess
from convae.data.images.pixels import as_kind
from convae.data.images.ranges import DIM

SAMPLED = 64
"""Number of items in the digest of a dataset."""


class Items:
    """Items with random access, of one shape and type."""

    kind: Any
    shape: Shape
    has_nan = False
    is_hashed = True
    """Whether the digest covers every item."""

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

    def digests(self) -> NDArray[np.uint8]:
        """(images, 16) digest of each image; of its position in a dataset, whose images are not read for it.

        Random numbers whose counters begin there do not overlap.
        """
        found = self.identities()
        if self.is_hashed:
            return found
        rows = b"".join(hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in found)
        return np.frombuffer(rows, np.uint8).reshape(-1, 16)

    def extremes(self) -> tuple[float, float]:
        """The smallest and the largest value, of a sample of the items if that is faster."""
        raise NotImplementedError

    def notes(self) -> list[str]:
        """A note if integers use so small a part of their range that they were probably to be scaled by another one."""
        if self.kind not in ("uint8", "uint16"):
            return []
        (low, high), top = self.extremes(), np.iinfo(self.kind).max
        if low == high or high - low >= DIM * top:
            return []
        return [
            f"data: values are {low:g} to {high:g}, and {top} is 1. To rescale them, pass floats in [0, 1], such as "
            f"data / {high:g}"
        ]


class _Array(Items):
    """An array in memory."""

    def __init__(self, values: NDArray[Any]) -> None:
        if values.dtype.kind == "f" and (absent := np.isnan(values)).any():
            self.has_nan = True
            values = as_kind(np.where(absent, 0, values), "float32")
            values = np.where(absent, np.float32(np.nan), values)
        if values.dtype not in (np.uint8, np.uint16) and not self.has_nan:
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

    def extremes(self) -> tuple[float, float]:
        return float(self._values.min()), float(self._values.max())

    def identities(self) -> NDArray[np.uint8]:
        digests = [hashlib.blake2b(np.ascontiguousarray(each).data, digest_size=16).digest() for each in self._values]
        return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 16)


class _Dataset(Items):
    """A map-style dataset; its items are (channels, *sizes) tensors or arrays, Pillow images, or pairs with a label.

    Args:
        dataset: the dataset.
        channels_last: whether tensors and arrays are (*sizes, channels).
    """

    is_hashed = False

    def __init__(self, dataset: Any, channels_last: bool) -> None:
        self._dataset, self._channels_last = dataset, channels_last
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
        """The labels, from the attribute `targets` or `labels` if they are those of the items, or from the items."""
        first = self._dataset[0]
        has_pairs = isinstance(first, tuple | list) and len(first) >= 2
        for name in ("targets", "labels"):
            if (known := getattr(self._dataset, name, None)) is not None and len(known) == len(self):
                found = _label_array(known, len(self))
                # Those of a dataset with a `target_transform`, or in another order, are not.
                if not has_pairs or all(_is_label(self._dataset[place][1], found[place]) for place in self._sample()):
                    return found
        if not has_pairs:
            return None
        return _label_array([self._dataset[position][1] for position in range(len(self))], len(self))

    def digest(self) -> str:
        total = hashlib.sha256(repr((self.kind, len(self), self.shape)).encode())
        for position in self._sample():
            total.update(np.ascontiguousarray(self._values(position)).data)
        return total.hexdigest()

    def extremes(self) -> tuple[float, float]:
        ends = [(values.min(), values.max()) for values in map(self._values, self._sample())]
        return float(min(low for low, _ in ends)), float(max(high for _, high in ends))

    def identities(self) -> NDArray[np.uint8]:
        return np.arange(len(self), dtype="<u8").repeat(2).view(np.uint8).reshape(-1, 16)

    def _sample(self) -> list[int]:
        """At most `SAMPLED` evenly spaced positions."""
        places: list[int] = np.linspace(0, len(self) - 1, min(SAMPLED, len(self))).astype(int).tolist()
        return places

    def _values(self, position: int) -> NDArray[Any]:
        """(channels, *sizes), one item."""
        item = self._dataset[position]
        if isinstance(item, tuple | list):
            item = item[0]
        if isinstance(item, Image.Image):
            kept = item.mode in ("1", "L", "RGB", "RGBA") or item.mode.startswith(("I", "F"))
            # Others, such as palettes, have values that are no colors.
            values = np.asarray(item) if kept else preprocess(item, (item.height, item.width))
            values = values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0)
        else:
            values = _as_array(item, f"item {position} of the dataset")
            if values.ndim < 2:
                raise DataError(f"item {position} of the dataset is not an image: its shape is {tuple(values.shape)}")
            values = _channels_first(values[None], self._channels_last)[0]
        if values.dtype in (np.uint8, np.uint16):
            return values
        return as_kind(values, "uint8" if values.dtype == np.bool_ else "float32")


def open_items(images: Any, labels: Any, channels_last: bool) -> tuple[Items, NDArray[np.int64] | None]:
    """Items and labels of the data that a user passed.

    Args:
        images: array, tensor or map-style dataset.
        labels: (images,) class numbers; by default those of the dataset.
        channels_last: whether an array is (images, *sizes, channels), or those of a dataset (*sizes, channels).

    Returns:
        The items, and their class numbers, -1 if missing; None without labels.

    Raises:
        DataError: invalid data; the message says how to pass it.
    """
    if isinstance(images, torch.utils.data.IterableDataset):
        raise DataError(
            "data: an IterableDataset cannot be resumed at a step. Pass an array or a map-style Dataset with "
            "__len__ and __getitem__"
        )
    if isinstance(images, Tensor | np.ndarray):
        values = _as_array(images, "data")
        items: Items = _Array(_channels_first(values, channels_last))
        found = None
    elif hasattr(images, "__getitem__") and hasattr(images, "__len__") and not isinstance(images, str | Mapping):
        if not len(images):
            raise DataError("data: the dataset is empty")
        dataset = _Dataset(images, channels_last)
        items, found = dataset, dataset.labels() if labels is None else None
    else:
        is_loader = isinstance(images, torch.utils.data.DataLoader)
        remedy = "Pass its .dataset" if is_loader else "Write a path or the name of a data set into the recipe"
        raise DataError(
            f"data: must be a NumPy array, a tensor or a map-style torch Dataset, got {type(images).__name__}. {remedy}"
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
        raise DataError(
            f"data: expected (images, channels, *sizes), got {values.shape}. Set channels_last=True, "
            "or pass np.moveaxis(images, -1, 1)"
        )
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
        got = f"{shape_text(found.shape) or 'one value'} of type {found.dtype}"
        raise DataError(f"labels: expected {count} class numbers (from 0; -1 is missing), one per image, got {got}")
    return found.astype(np.int64)


def _is_label(given: Any, number: np.int64) -> bool:
    """Whether what an item has as its label is a class number; of other kinds of labels, it is assumed."""
    is_number = isinstance(given, int | np.integer) or (isinstance(given, Tensor) and not given.ndim)
    return not is_number or int(given) == int(number)


def _channels_last(batch: Tensor) -> Tensor:
    """A batch in torch's channels_last layout."""
    layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
    return batch.contiguous(memory_format=layouts[batch.ndim]) if batch.ndim in layouts else batch
