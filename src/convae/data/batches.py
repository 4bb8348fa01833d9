"""Batches in an order that depends on seed and epoch alone, gathered while the previous one is in use."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Shaped, UInt8
from numpy.typing import NDArray
from torch import Tensor

from convae.core.errors import ConfigError
from convae.core.random import numpy_generator
from convae.core.types import Batch, Images, Shape, slice_bounds
from convae.data.augment import Augmentation, AugmentConfig
from convae.data.tensors import to_unit


@runtime_checkable
class ImageSet(Protocol):
    """Images in a fixed order that can be read at any position: a split in its memory map, an array, a user's Dataset.

    Attributes:
        name: of the part: `train`, `validation` …
        source: where the images come from, for messages.
        labels: (images,) class numbers, -1 where one is missing; None without labels.
        classes: the names of the classes, where there are names.
        augment: what happens to the images in training at random.
    """

    name: Any
    source: str
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...] | None
    augment: AugmentConfig

    def __len__(self) -> int:
        """Number of images."""

    @property
    def shape(self) -> Shape:
        """(channels, *sizes) of every image."""

    @property
    def skipped(self) -> Sequence[tuple[str, str]]:
        """(name, reason) of each image that could not be read."""

    @property
    def levels(self) -> int | None:
        """How many evenly spaced levels a value can have, of 8 or 16 bits; None for floats."""

    @property
    def image_bytes(self) -> int:
        """Bytes of one image as `images` gives it."""

    @property
    def folder(self) -> Path:
        """Where `skipped.csv` lies, the list of images that could not be read."""

    @property
    def notes(self) -> list[str]:
        """What a person should know of the data, a sentence each."""

    def images(
        self, indices: NDArray[np.int64] | Sequence[int], out: UInt8[Tensor, "batch bytes"] | None = None
    ) -> Shaped[Tensor, "batch channel *sizes"]:
        """The stored values at `indices`: uint8 or uint16 to be divided by their range, or floats in [0, 1]."""

    def describe(self) -> dict[str, Any]:
        """The facts that a metric measured on these images has to be published with."""


@runtime_checkable
class BatchSource(Protocol):
    """Training batches in an order that is a function of seed, epoch and step, so that a run resumes bit for bit.

    Attributes:
        batch_size: images in a batch, of all processes together.
        waited: seconds that consumers had to wait for their batches, in all.
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
        """The names of the labels' classes, where there are names."""

    @property
    def levels(self) -> int | None:
        """How many evenly spaced levels a value can have; None for floats."""

    def iterate(
        self, epoch: int, start_step: int = 0, device: torch.device | str = "cpu", strength: float = 1.0
    ) -> Iterator[Batch]:
        """The batches of an epoch from `start_step` on, each the same whenever it is asked for.

        Args:
            epoch: from 0.
            start_step: of the first batch.
            device: where they are delivered.
            strength: factor on random changes of the items.
        """


class Batches:
    """The training batches of a split: what step s of epoch e holds is a function of the seed, e and s.

    Args:
        split: the images.
        batch_size: images in a batch; a split that is smaller makes one smaller batch.
        seed: of the order and of the random changes that the split's configuration asks for.
        drop_last: leaves out the images that fill no whole batch, others in each epoch.
        labels: (images,) what is told of the images' classes; otherwise the split's own labels.
        part: which consecutive part of each batch is delivered, counted from 0, and of how many: each of the processes
            that share the batches takes one.

    Raises:
        ConfigError: a batch has fewer images than there are parts.
    """

    def __init__(
        self,
        split: ImageSet,
        batch_size: int,
        seed: int,
        *,
        drop_last: bool = True,
        labels: NDArray[np.int64] | None = None,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        self.split = split
        self.batch_size = min(batch_size, len(split))
        self.seed = seed
        self.drop_last = drop_last
        self.labels = split.labels if labels is None else labels
        self.waited = 0.0
        """Seconds that consumers had to wait for their batches, in all."""
        self._part = part
        if self.batch_size < part[1]:
            raise ConfigError(f"{part[1]} processes cannot share batches of {self.batch_size} images")
        self._augment = None if split.augment == AugmentConfig() else Augmentation(split.augment, seed)
        self._order = lru_cache(maxsize=1)(self._permutation)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        whole, rest = divmod(len(self.split), self.batch_size)
        return whole + (1 if rest and not self.drop_last else 0)

    @property
    def shape(self) -> Shape:
        """(channels, *sizes) of every image."""
        return self.split.shape

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The names of the labels' classes, where there are names."""
        return self.split.classes

    @property
    def levels(self) -> int | None:
        """How many evenly spaced levels a value can have; None for floats."""
        return self.split.levels

    def indices(self, epoch: int, step: int) -> NDArray[np.int64]:
        """(batch,) positions in the split of the images of one batch.

        Raises:
            IndexError: the epoch has no such step.
        """
        if not 0 <= step < self.steps_per_epoch:
            raise IndexError(f"step {step} of an epoch of {self.steps_per_epoch}")
        return self._order(epoch)[step * self.batch_size : (step + 1) * self.batch_size]

    def iterate(
        self, epoch: int, start_step: int = 0, device: torch.device | str = "cpu", strength: float = 1.0
    ) -> Iterator[Batch]:
        """The batches of an epoch from `start_step` on; the next one is gathered in a thread meanwhile.

        Args:
            epoch: whose order and random changes they have.
            start_step: of the first batch.
            device: where they are delivered.
            strength: factor on the random changes.
        """
        steps = range(start_step, self.steps_per_epoch)
        wholes = [self.indices(epoch, step) for step in steps]
        number, parts = self._part
        cuts = [slice_bounds(len(whole), parts)[number : number + 2] for whole in wholes]
        blocks = [whole[begin:end] for whole, (begin, end) in zip(wholes, cuts, strict=True)]
        with contextlib.closing(_deliver(self.split, blocks, torch.device(device), self.labels)) as batches:
            asked = time.perf_counter()
            for batch, whole, (begin, _) in zip(batches, wholes, cuts, strict=True):
                images = batch.images
                if self._augment is not None:
                    images = self._augment(images, batch.indices, epoch, strength)
                found = replace(
                    batch,
                    images=images,
                    start=begin,
                    global_size=len(whole),
                    labeled_fraction=self._labeled_fraction(whole),
                )
                self.waited += time.perf_counter() - asked
                yield found
                asked = time.perf_counter()

    def _labeled_fraction(self, whole: NDArray[np.int64]) -> float | None:
        """The share of a batch's images that have a label."""
        return None if self.labels is None else float((self.labels[whole] >= 0).mean())

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        return numpy_generator(self.seed, "order", epoch).permutation(len(self.split))


def evenly_spaced(length: int, count: int) -> NDArray[np.int64]:
    """Positions (at most `count`) spread over a split, so that a sample of images sorted by class has all classes."""
    shown = min(count, length)
    return np.arange(shown, dtype=np.int64) * length // max(shown, 1)


def in_order(
    split: ImageSet,
    batch_size: int,
    device: torch.device | str = "cpu",
    indices: NDArray[np.int64] | None = None,
    part: tuple[int, int] = (0, 1),
) -> Iterator[Batch]:
    """Every image of the split, or of its `indices`, once, in their order; the last batch holds what is left.

    Of several processes that share the batches, number `part[0]` of `part[1]` takes each `part[1]`-th one.
    """
    wanted = np.arange(len(split)) if indices is None else indices
    starts = range(0, len(wanted), batch_size)[part[0] :: part[1]]
    blocks = [wanted[start : start + batch_size] for start in starts]
    return _deliver(split, blocks, torch.device(device), split.labels)


def _deliver(
    split: ImageSet, blocks: Sequence[NDArray[np.int64]], device: torch.device, known: NDArray[np.int64] | None
) -> Generator[Batch, None, None]:
    """The batches of `blocks`, each gathered by one thread while the consumer works on the one before.

    `known` are the labels that they show, of all images of the split; None without labels.

    The thread ends with the generator, also when the consumer stops early; an error in it is raised at the consumer.
    """
    if not blocks:
        return
    staging = _Staging(split, max(map(len, blocks)), device)
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as worker:
        waiting = worker.submit(staging.gather, 0, blocks[0])
        for position, block in enumerate(blocks):
            pixels = waiting.result()
            if position + 1 < len(blocks):
                waiting = worker.submit(staging.gather, position + 1, blocks[position + 1])
            images = staging.deliver(position, pixels)
            labels = None if known is None else torch.from_numpy(known[block]).to(device)
            yield Batch(images, labels, torch.from_numpy(block).to(device))


class _Staging:
    """Two pieces of memory that batches are gathered into by turns: one is filled while the other is delivered.

    Memory that is used again needs no new pages, which would take longer than the copying.
    """

    def __init__(self, split: ImageSet, batch_size: int, device: torch.device) -> None:
        self._split, self._device = split, device
        # From pinned memory the copy to the device runs beside the computation.
        pinned = device.type == "cuda"
        self._memory = torch.empty(2, batch_size, split.image_bytes, dtype=torch.uint8, pin_memory=pinned)
        self._delivered = [torch.cuda.Event() for _ in range(2 * pinned)]

    def gather(self, position: int, block: NDArray[np.int64]) -> Shaped[Tensor, "batch channel *sizes"]:
        """The stored values of a block; valid until the one after the next is gathered."""
        turn = position % 2
        if self._delivered:
            self._delivered[turn].synchronize()
        return self._split.images(block, self._memory[turn, : len(block)])

    def deliver(self, position: int, pixels: Shaped[Tensor, "batch channel *sizes"]) -> Images:
        """What was gathered as images on the device."""
        images = to_unit(pixels, self._device)
        if self._delivered:
            self._delivered[position % 2].record()
        # Floats on the CPU pass unchanged, and their memory will be used again.
        return images.clone() if images.data_ptr() == pixels.data_ptr() else images
