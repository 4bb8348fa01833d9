"""A pass of a network over a large image in slices, and the memory that its maps take."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from contextvars import ContextVar

from torch import Tensor

_CURRENT: ContextVar[SlicedPass | None] = ContextVar("sliced_pass", default=None)


class SlicedPass:
    """One pass of a network over a large image in slices.

    Args:
        slice_bytes: memory of the slices that are computed at a time, approximately.
        map_bytes: memory of the stored maps.
        item_bytes: of one value.
    """

    def __init__(self, slice_bytes: int, map_bytes: int, item_bytes: int) -> None:
        self.slice_bytes = slice_bytes
        self.item_bytes = item_bytes
        self.depth = 0
        self._map_bytes = map_bytes
        self._stored: list[weakref.ref[Tensor]] = []

    @property
    def free_bytes(self) -> int:
        """Memory that further maps may take."""
        tensors = {id(tensor): tensor for reference in self._stored if (tensor := reference()) is not None}
        self._stored = [weakref.ref(tensor) for tensor in tensors.values()]
        return self._map_bytes - sum(tensor.nbytes for tensor in tensors.values())

    def count(self, tensor: Tensor) -> None:
        """Counts a stored map, as long as it exists."""
        self._stored.append(weakref.ref(tensor))

    @contextlib.contextmanager
    def inside_branch(self) -> Iterator[None]:
        """While the branch of a residual connection is computed, whose output will need memory as well."""
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1


def current_pass() -> SlicedPass | None:
    """The pass that a network inside of a layer belongs to; None where it gets a slice, or without slices."""
    return _CURRENT.get()


@contextlib.contextmanager
def as_current(sliced: SlicedPass | None) -> Iterator[None]:
    """A context in which networks inside of layers belong to a pass, or to none."""
    token = _CURRENT.set(sliced)
    try:
        yield
    finally:
        _CURRENT.reset(token)
