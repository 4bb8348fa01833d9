"""Batches in an order that depends on seed and epoch alone, gathered while the previous one is in use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from numpy.typing import NDArray
from torch import Tensor

from convae.core.random import numpy_generator
from convae.data.split import Split


@dataclass(frozen=True)
class Batch:
    """Some images of a split, on a device.

    Attributes:
        images: (batch, channel, *sizes) in [0, 1], in torch's channels_last layout.
        labels: (batch,) class numbers, -1 where one is missing; None without labels.
        indices: (batch,) positions in the split.
    """

    images: Float[Tensor, "batch channel *sizes"]
    labels: Int64[Tensor, " batch"] | None
    indices: Int64[Tensor, " batch"]

    def __len__(self) -> int:
        return len(self.indices)


class Batches:
    """The training batches of a split: what step s of epoch e holds is a function of the seed, e and s.

    Args:
        split: the images.
        batch_size: images in a batch; a split that is smaller makes one smaller batch.
        seed: of the order.
        drop_last: leaves out the images that fill no whole batch, others in each epoch.
    """

    def __init__(self, split: Split, batch_size: int, seed: int, *, drop_last: bool = True) -> None:
        self.split = split
        self.batch_size = min(batch_size, len(split))
        self.seed = seed
        self.drop_last = drop_last
        self._order = lru_cache(maxsize=1)(self._permutation)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        whole, rest = divmod(len(self.split), self.batch_size)
        return whole + (1 if rest and not self.drop_last else 0)

    def indices(self, epoch: int, step: int) -> NDArray[np.int64]:
        """(batch,) positions in the split of the images of one batch.

        Raises:
            IndexError: the epoch has no such step.
        """
        if not 0 <= step < self.steps_per_epoch:
            raise IndexError(f"step {step} of an epoch of {self.steps_per_epoch}")
        return self._order(epoch)[step * self.batch_size : (step + 1) * self.batch_size]

    def iterate(self, epoch: int, start_step: int = 0, device: torch.device | str = "cpu") -> Iterator[Batch]:
        """The batches of an epoch from `start_step` on; the next one is gathered in a thread meanwhile."""
        steps = range(start_step, self.steps_per_epoch)
        return _deliver(self.split, [self.indices(epoch, step) for step in steps], torch.device(device))

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        return numpy_generator(self.seed, "order", epoch).permutation(len(self.split))


def in_order(
    split: Split, batch_size: int, device: torch.device | str = "cpu", indices: NDArray[np.int64] | None = None
) -> Iterator[Batch]:
    """Every image of the split, or of its `indices`, once, in their order; the last batch holds what is left."""
    wanted = np.arange(len(split)) if indices is None else indices
    blocks = [wanted[start : start + batch_size] for start in range(0, len(wanted), batch_size)]
    return _deliver(split, blocks, torch.device(device))


def _deliver(split: Split, blocks: Sequence[NDArray[np.int64]], device: torch.device) -> Iterator[Batch]:
    """The batches of `blocks`, each gathered by one thread while the consumer works on the one before.

    The thread ends with the generator, also when the consumer stops early; an error in it is raised at the consumer.
    """

    def gather(block: NDArray[np.int64]) -> UInt8[Tensor, "batch channel *sizes"]:
        images = split.images(block)
        # From pinned memory the copy to the device runs beside the computation.
        return images.pin_memory() if device.type == "cuda" else images

    if not blocks:
        return
    # Divided by a tensor, because CUDA multiplies by the reciprocal of a number: value / 255 exactly, everywhere.
    largest = torch.full((), 255.0, device=device)
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as worker:
        waiting = worker.submit(gather, blocks[0])
        for position, block in enumerate(blocks):
            images = waiting.result()
            if position + 1 < len(blocks):
                waiting = worker.submit(gather, blocks[position + 1])
            labels = None if split.labels is None else torch.from_numpy(split.labels[block]).to(device)
            yield Batch(
                images.to(device, non_blocking=True).float().div_(largest), labels, torch.from_numpy(block).to(device)
            )
