"""What tools and the trainer need of data: sets of images, and sources of batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Shaped, UInt8
from numpy.typing import NDArray
from torch import Tensor

from convae.core.types import Batch, Shape
from convae.data.augment import AugmentConfig
from convae.data.binarize import Binarization
from convae.data.missing import Missing


@runtime_checkable
class ImageSet(Protocol):
    """Images in a fixed order with random access: a split in its memory map, an array, a user's Dataset.

    Attributes:
        name: name of the split: `train`, `validation` …
        source: origin of the images, for messages.
        labels: (images,) class numbers, -1 if missing; None without labels.
        classes: names of the classes; None without names.
        augment: data augmentation in training.
        binarize: how values become 0 or 1; None where they are kept.
        missing: how missing values are known; None where all are observed.
        is_hashed: whether `content_hash` in `describe` covers every image.
    """

    name: Any
    source: str
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...] | None
    augment: AugmentConfig
    binarize: Binarization | None
    missing: Missing | None
    is_hashed: bool

    def __len__(self) -> int:
        """Number of images."""

    @property
    def shape(self) -> Shape:
        """(channels, *sizes) of every image."""

    @property
    def skipped(self) -> Sequence[tuple[str, str]]:
        """(name, reason) of each unreadable image."""

    @property
    def levels(self) -> int | None:
        """Number of evenly spaced levels of a value: 2 if binarized, those of 8 or 16 bits; None for floats."""

    @property
    def image_bytes(self) -> int:
        """Bytes of one image as returned by `images`."""

    @property
    def identities(self) -> NDArray[np.uint8]:
        """(images, 16) digest of each image."""

    @property
    def folder(self) -> Path:
        """Folder of `skipped.csv`, the list of unreadable images."""

    @property
    def notes(self) -> list[str]:
        """Notes on the data for the user, one sentence each."""

    def images(
        self, indices: NDArray[np.int64] | Sequence[int], out: UInt8[Tensor, "batch bytes"] | None = None
    ) -> Shaped[Tensor, "batch channel *sizes"]:
        """The stored values at `indices`: uint8 or uint16 to divide by their range, or floats in [0, 1].

        Where `missing.is_stored`, a last channel holds the weights.
        """

    def describe(self) -> dict[str, Any]:
        """The facts about the data to publish with a metric."""


@runtime_checkable
class BatchSource(Protocol):
    """Training batches in an order that is a pure function of seed, epoch and step, so that runs resume exactly.

    Attributes:
        batch_size: images in a global batch, over all processes.
        waited: total seconds that consumers waited for batches.
    """

    batch_size: int
    waited: float

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""

    @property
    def shape(self) -> Shape:
        """The shape of one item of a batch."""

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes; None without names."""

    @property
    def levels(self) -> int | None:
        """Number of evenly spaced levels of a value; None for floats."""

    def iterate(
        self, epoch: int, start_step: int = 0, device: torch.device | str = "cpu", strength: float = 1.0
    ) -> Iterator[Batch]:
        """Iterates over the batches of an epoch from `start_step`; a batch is always the same for an epoch and step.

        Args:
            epoch: from 0.
            start_step: step of the first batch.
            device: device of the batches.
            strength: factor on the augmentation.
        """


def evenly_spaced(length: int, count: int) -> NDArray[np.int64]:
    """At most `count` evenly spaced positions, so that a sample of images sorted by class contains all classes."""
    shown = min(count, length)
    return np.arange(shown, dtype=np.int64) * length // max(shown, 1)
