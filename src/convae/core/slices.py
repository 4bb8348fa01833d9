"""Statistics over all images of a batch that passes through a model in slices, as in gradient accumulation.

A batch mean that depends on parameters, such as the mean assignment of codes, is needed before the first slice has its
gradient. The trainer therefore runs a first pass without gradients where a module asks for such means, or where a
codebook is to be initialized from the whole batch:

    slices ── first pass, no gradient ──> means, initial codes ── pass with gradient ── finish ──> moving averages

Outside of a training step, a pass is a batch of one slice.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Iterator
from contextvars import ContextVar
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from convae.core.collective import is_shared, shared_sum

_CURRENT: ContextVar[BatchSlices | None] = ContextVar("batch_slices", default=None)


@runtime_checkable
class InitializesFromBatch(Protocol):
    """A module with data-dependent initialization from the first training batch, by `BatchSlices.start`."""

    training: bool

    @property
    def is_initialized(self) -> bool:
        """Whether the module is initialized."""


class BatchSlices:
    """The statistics of one batch in the passes of its slices.

    Attributes:
        is_first_pass: whether this is the pass without gradients, in which modules do not update their statistics.

    Args:
        count: number of slices.
    """

    def __init__(self, count: int = 1) -> None:
        self.is_first_pass = False
        self._count = count
        self._means: list[Tensor] = []
        self._position = 0
        self._start: tuple[Hashable, Callable[[Tensor], None], list[Tensor]] | None = None
        self._started_in_slice = False
        self._added: dict[Hashable, tuple[Tensor, Callable[[Tensor], None]]] = {}

    @property
    def has_means(self) -> bool:
        """Whether a module or a term asked for a batch mean in the first pass."""
        return bool(self._means)

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """A context around the pass of each slice, in order."""
        token = _CURRENT.set(self)
        self._position, self._started_in_slice = 0, False
        try:
            yield
        finally:
            _CURRENT.reset(token)

    @contextlib.contextmanager
    def first_pass(self) -> Iterator[None]:
        """A context around the passes of all slices without gradients."""
        self.is_first_pass, self._means = True, []
        try:
            yield
        finally:
            self.is_first_pass = False

    def mean(self, total: Tensor, number: int) -> Tensor:
        """See `mean_of_sums`."""
        sums = shared_sum(torch.cat([total.flatten(), total.new_full((1,), number)]))
        own = (sums[:-1] / sums[-1]).view_as(total)
        if self._count == 1:
            return own
        if self.is_first_pass:
            if self._position == len(self._means):
                self._means.append(torch.zeros_like(sums))
            self._means[self._position] = self._means[self._position] + sums
            self._position += 1
            return own
        whole = self._means[self._position]
        self._position += 1
        return (whole[:-1] / whole[-1]).view_as(total) + (own - own.detach())

    def start(self, owner: Hashable, values: Tensor, start: Callable[[Tensor], None]) -> None:
        """Initializes a module from the values of all slices, before it is used; does nothing in the second pass.

        Args:
            owner: the module. One module is initialized by each first pass, as the values of the next depend on it.
            values: (value, …) of the slice.
            start: initializes the module from the values of all slices.
        """
        if self._count == 1:
            start(values)
        elif self.is_first_pass and not self._started_in_slice and (self._start is None or self._start[0] == owner):
            self._start = self._start or (owner, start, [])
            self._start[2].append(values)
            self._started_in_slice = True

    def start_first(self) -> bool:
        """Initializes the first module that waits for the values of all slices; False without one."""
        if self._start is None:
            return False
        _, start, values = self._start
        start(torch.cat(values))
        self._start = None
        return True

    def add(self, owner: Hashable, sums: Tensor, finish: Callable[[Tensor], None]) -> None:
        """Adds sums of a slice; `finish` is called with those of all slices after the last one."""
        if not self.is_first_pass:
            self._added[owner] = (self._added[owner][0] + sums if owner in self._added else sums, finish)

    def finish(self) -> None:
        """Called after the last slice."""
        for sums, finish in self._added.values():
            finish(sums)
        self._added = {}


def batch_mean(values: Tensor) -> Tensor:
    """The mean over the first axis and all images of the batch, of all ranks and slices.

    With several slices, its value is that of the whole batch and its gradient that of the slice. That gives the
    gradient of the batch for costs in which each image has the same derivative by the mean, and for means whose values
    do not depend on other batch means.

    Args:
        values: (image, …), or another item of images.
    """
    return mean_of_sums(values.sum(0), len(values))


def mean_of_sums(total: Tensor, number: int) -> Tensor:
    """`batch_mean`, from the sum of this pass.

    Args:
        total: the sum over the items of this pass, of any shape.
        number: items in the sum.
    """
    slices = _CURRENT.get()
    if slices is None and not is_shared():
        return total / number
    return (slices or BatchSlices()).mean(total, number)


def is_first_pass() -> bool:
    """Whether batch means are gathered in this pass, which has no gradients; see `batch_mean`."""
    slices = _CURRENT.get()
    return slices is not None and slices.is_first_pass


def later_sums(owner: Hashable, finish: Callable[[Tensor], None]) -> Callable[[Tensor], None]:
    """A function that adds sums to those of the batch that this pass belongs to, also in the backward pass.

    Args:
        owner: of the sums.
        finish: called with the sums of all slices of this rank, after the last one.
    """
    slices = _CURRENT.get()

    def add(sums: Tensor) -> None:
        finish(sums) if slices is None else slices.add(owner, sums, finish)

    return add


@contextlib.contextmanager
def batch_slices() -> Iterator[BatchSlices]:
    """The slices that this pass belongs to; outside of a training step, a batch of one slice that ends here."""
    current = _CURRENT.get()
    if current is not None:
        yield current
        return
    own = BatchSlices()
    with own.one():
        yield own
    own.finish()
