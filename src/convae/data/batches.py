"""Batches in an order that depends on seed and epoch only, gathered in a thread."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Shaped
from numpy.typing import NDArray
from torch import Tensor

from convae.core.device import copy_to_device
from convae.core.errors import ConfigError
from convae.core.names import count_text
from convae.core.random import numpy_generator
from convae.core.types import Batch, Images, Shape, slice_bounds
from convae.data.augment import Augmentation, AugmentConfig
from convae.data.binarize import binarize, epoch_stream
from convae.data.image_set import ImageSet
from convae.data.images.tensors import to_unit
from convae.data.labeled_draws import LabeledDraws

_NO_IDENTITIES = np.empty((0, 16), np.uint8)


class Batches:
    """The training batches of a split; a batch is a pure function of the seed, the epoch and the step.

    Args:
        split: the images.
        batch_size: images in a batch; a smaller split makes one smaller batch.
        seed: seed of the order and of the augmentation.
        drop_last: drops the last incomplete batch of an epoch.
        labels: (images,) labels to use instead of the split's own.
        part: (rank, world size): the consecutive part of each global batch to return.
        draws: labeled images that are drawn into every batch.

    Raises:
        ConfigError: a batch has fewer images than there are processes.
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
        draws: LabeledDraws | None = None,
    ) -> None:
        self.split = split
        self.batch_size = min(batch_size, len(split))
        self.seed = seed
        self.drop_last = drop_last
        self.labels = split.labels if labels is None else labels
        self.waited = 0.0
        """Total seconds that consumers waited for batches."""
        self._part, self._draws = part, draws
        require_image_per_rank(self.batch_size, part[1])
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
        """Names of the classes; None without names."""
        return self.split.classes

    @property
    def levels(self) -> int | None:
        """Number of evenly spaced levels of a value; None for floats."""
        return self.split.levels

    def indices(self, epoch: int, step: int) -> NDArray[np.int64]:
        """(batch,) positions of the images of one batch in the split.

        Raises:
            IndexError: the epoch has no such step.
        """
        if not 0 <= step < self.steps_per_epoch:
            raise IndexError(f"step {step} of an epoch of {self.steps_per_epoch}")
        found = self._order(epoch)[step * self.batch_size : (step + 1) * self.batch_size]
        return found if self._draws is None else self._draws.insert(found, self._number(epoch, step))

    def iterate(
        self, epoch: int, start_step: int = 0, device: torch.device | str = "cpu", strength: float = 1.0
    ) -> Iterator[Batch]:
        """Iterates over the batches of an epoch from `start_step`; a thread gathers the next one.

        Args:
            epoch: determines order and augmentation.
            start_step: step of the first batch.
            device: device of the batches.
            strength: factor on the augmentation.
        """
        steps = range(start_step, self.steps_per_epoch)
        wholes = [self.indices(epoch, step) for step in steps]
        number, parts = self._part
        cuts = [slice_bounds(len(whole), parts)[number : number + 2] for whole in wholes]
        blocks = [whole[begin:end] for whole, (begin, end) in zip(wholes, cuts, strict=True)]
        identities = _NO_IDENTITIES if self.split.binarize is None else self.split.identities
        with contextlib.closing(_deliver(self.split, blocks, torch.device(device), self.labels)) as batches:
            asked = time.perf_counter()
            for step, batch, whole, (begin, _) in zip(steps, batches, wholes, cuts, strict=True):
                images = self._augmented(batch, epoch, step, begin, len(whole), strength)
                if (how := self.split.binarize) is not None:
                    stream = epoch_stream(how, self.seed, epoch)
                    own = identities[whole[begin : begin + len(images)]]
                    images = binarize(images, how, own, batch.weights, stream)
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

    def _number(self, epoch: int, step: int) -> int:
        """Number of a batch from the start of the training."""
        return epoch * self.steps_per_epoch + step

    def _augmented(self, batch: Batch, epoch: int, step: int, begin: int, size: int, strength: float) -> Images:
        """The augmented images of a part of a batch, which begins at row `begin` of `size`."""
        images = batch.images
        if self._augment is not None:
            images = self._augment(images, batch.indices, epoch, strength)
        if self._draws is None:
            return images
        rows = self._draws.rows(size) - begin
        own = copy_to_device(torch.from_numpy(rows[(rows >= 0) & (rows < len(images))]), images.device)
        found = images.clone(memory_format=torch.preserve_format)
        number = self._number(epoch, step)
        found[own] = self._draws.augment(batch.images[own], batch.indices[own], number, strength)
        return found

    def _labeled_fraction(self, whole: NDArray[np.int64]) -> float | None:
        """Fraction of labeled images in a batch."""
        return None if self.labels is None else float((self.labels[whole] >= 0).mean())

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        return numpy_generator(self.seed, "order", epoch).permutation(len(self.split))


def require_image_per_rank(batch_size: int, processes: int) -> None:
    """Checks that every process gets an image of each batch.

    Raises:
        ConfigError: a batch has fewer images than there are processes.
    """
    if batch_size < processes:
        raise ConfigError(
            f"batch_size: {count_text(batch_size, 'image')} cannot be divided among {processes} processes. Use at "
            f"least {processes}"
        )


def in_order(
    split: ImageSet,
    batch_size: int,
    device: torch.device | str = "cpu",
    indices: NDArray[np.int64] | None = None,
    part: tuple[int, int] = (0, 1),
    is_spread: bool = False,
) -> Iterator[Batch]:
    """Iterates once over the images of the split, or of its `indices`, in order; the last batch may be smaller.

    With several processes, rank `part[0]` of `part[1]` takes every `part[1]`-th batch.

    With `is_spread`, each batch has evenly spaced images, so that it is like the split if images are sorted, as by
    class; as many batches, of nearly equal size.
    """
    wanted = np.arange(len(split)) if indices is None else indices
    if is_spread:
        count = -(-len(wanted) // batch_size)
        blocks = [wanted[number::count] for number in range(part[0], count, part[1])]
    else:
        starts = range(0, len(wanted), batch_size)[part[0] :: part[1]]
        blocks = [wanted[start : start + batch_size] for start in starts]
    batches = _deliver(split, blocks, torch.device(device), split.labels)
    if (how := split.binarize) is None:
        return batches
    identities = split.identities
    return (
        replace(batch, images=binarize(batch.images, how, identities[block], batch.weights))
        for batch, block in zip(batches, blocks, strict=True)
    )


def _deliver(
    split: ImageSet, blocks: Sequence[NDArray[np.int64]], device: torch.device, known: NDArray[np.int64] | None
) -> Generator[Batch, None, None]:
    """Yields the batches of `blocks`; a thread gathers the next one while the consumer uses the current one.

    `known` are the labels of all images of the split; None without labels.

    The thread ends with the generator, even if the consumer stops early; its errors are raised in the consumer.
    """
    if not blocks:
        return
    drops = split.missing is not None and split.missing.fraction > 0
    identities = split.identities if drops else _NO_IDENTITIES
    staging = _Staging(split, max(map(len, blocks)), device)
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as worker:
        _use_one_core(worker)
        waiting = worker.submit(staging.gather, 0, blocks[0])
        for position, block in enumerate(blocks):
            pixels = waiting.result()
            if position + 1 < len(blocks):
                waiting = worker.submit(staging.gather, position + 1, blocks[position + 1])
            images, weights = staging.deliver(position, pixels), None
            if split.missing is not None:
                images, weights = split.missing.apply(images, identities[block] if drops else identities)
            labels = None if known is None else copy_to_device(torch.from_numpy(known[block]), device)
            indices = copy_to_device(torch.from_numpy(block), device)
            yield Batch(images, labels, indices, data_size=len(split), weights=weights)


def _use_one_core(worker: ThreadPoolExecutor) -> None:
    """Lets torch compute on one core in the only thread of a pool, as it does in the processes of its data loaders.

    Otherwise OpenMP starts as many threads for it as for the caller. With more threads than cores, all of them sleep
    where they wait for each other, also those of the caller, whose operations on the CPU then take up to twice as long.
    """
    if "OpenMP" not in torch.__config__.parallel_info():
        return
    own = torch.get_num_threads()

    def use_one() -> None:
        torch.get_num_threads()  # a thread takes over the number of the process when it first asks for it
        torch.set_num_threads(1)  # of this thread, and of those to come

    worker.submit(use_one).result()
    torch.set_num_threads(own)


class _Staging:
    """Two alternating staging buffers: one is filled while the other is delivered.

    Reused memory causes no page faults, which would take longer than the copy.
    """

    def __init__(self, split: ImageSet, batch_size: int, device: torch.device) -> None:
        self._split, self._device = split, device
        # Copies from pinned memory overlap with computation.
        pinned = device.type == "cuda"
        with torch.inference_mode(False):  # the thread that writes to it is not in the mode of the caller
            self._memory = torch.empty(2, batch_size, split.image_bytes, dtype=torch.uint8, pin_memory=pinned)
        self._delivered = [torch.cuda.Event() for _ in range(2 * pinned)]

    def gather(self, position: int, block: NDArray[np.int64]) -> Shaped[Tensor, "batch channel *sizes"]:
        """Gathers the stored values of a block; valid until the block after the next is gathered."""
        turn = position % 2
        if self._delivered:
            self._delivered[turn].synchronize()
        return self._split.images(block, self._memory[turn, : len(block)])

    def deliver(self, position: int, pixels: Shaped[Tensor, "batch channel *sizes"]) -> Images:
        """Converts gathered values to images on the device."""
        images = to_unit(pixels, self._device)
        if self._delivered:
            self._delivered[position % 2].record()
        # Floats on the CPU pass unchanged, and their buffer is reused.
        return images.clone() if images.data_ptr() == pixels.data_ptr() else images
