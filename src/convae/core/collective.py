"""Sums over the processes that share a batch, for statistics over all of its images.

Layers and terms call `shared_sum` regardless of the number of processes. It is the identity outside of `sharing`,
which the trainer enters around a distributed step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

_SHARING: ContextVar[bool] = ContextVar("sharing", default=False)
_SHARING_BATCH_NORM: ContextVar[bool] = ContextVar("sharing_batch_norm", default=False)


@contextlib.contextmanager
def sharing(batch_norm: bool = False) -> Iterator[None]:
    """A context in which all processes run the same steps on parts of one batch.

    Args:
        batch_norm: whether batch norms use statistics over all processes.
    """
    token, token_batch_norm = _SHARING.set(True), _SHARING_BATCH_NORM.set(batch_norm)
    try:
        yield
    finally:
        _SHARING.reset(token)
        _SHARING_BATCH_NORM.reset(token_batch_norm)


def is_shared() -> bool:
    """Whether other processes run this step on other images of the batch."""
    return _SHARING.get()


def shares_batch_norm() -> bool:
    """Whether batch norms use statistics over all processes that share the batch."""
    return _SHARING_BATCH_NORM.get()


def shared_sum(values: Tensor) -> Tensor:
    """Differentiable sum of a tensor over all processes. Every process must call it, in the same order."""
    if not is_shared():
        return values
    total: Tensor = _SharedSum.apply(values)  # type: ignore[no-untyped-call]  # untyped in torch
    return total


class _SharedSum(torch.autograd.Function):
    """All-reduce with an all-reduced gradient, since each result depends on the values of all processes."""

    @staticmethod
    def forward(_ctx: Any, values: Tensor) -> Tensor:
        return _summed(values)

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> Tensor:
        return _summed(gradients[0])


def _summed(values: Tensor) -> Tensor:
    total = values.clone(memory_format=torch.contiguous_format)
    torch.distributed.all_reduce(total)
    return total
