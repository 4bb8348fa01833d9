"""Averaged weights: an exponential moving average over the steps, for everything but training itself."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from convae.training.distributed.sharding import shard_like


class ExponentialMovingAverage:
    """The moving average of a model's parameters (Polyak & Juditsky 1992); buffers are taken as they are.

    The average of a frozen parameter is frozen, too, and is what the parts that are trained are trained with.

    Args:
        model: the model, whose weights the average begins with.
        decay: how much of the average a step leaves; less in the first steps, so that it forgets where it began.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._parameters = dict(model.named_parameters())
        self._decay = decay
        self._frozen: frozenset[str] = frozenset()
        self.tensors: dict[str, Tensor] = {}
        self.begin()

    def begin(self, tensors: Mapping[str, Tensor] | None = None) -> None:
        """Begins with `tensors`, by the parameters' names, or with the model's weights."""
        self.tensors = {
            name: parameter.detach().clone(memory_format=torch.preserve_format)
            for name, parameter in self._parameters.items()
        }
        for name, tensor in (tensors or {}).items():
            self.tensors[name].copy_(shard_like(tensor, self.tensors[name]))

    def state(self) -> dict[str, Any]:
        """The averages by the names of the parameters."""
        return dict(self.tensors)

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores the averages."""
        self.begin(state)

    @torch.no_grad()
    def freeze(self, names: Collection[str]) -> None:
        """Fixes the average of some parameters, by their names, which take its value; that of all others moves."""
        for name in names:
            self._parameters[name].copy_(self.tensors[name])
        self._frozen = frozenset(names)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in the weights after a step; `step` steps were done before it."""
        decay = min(self._decay, (1 + step) / (10 + step))
        moving = [name for name in self.tensors if name not in self._frozen]
        weights: list[Tensor] = [self._parameters[name] for name in moving]
        torch._foreach_lerp_([self.tensors[name] for name in moving], weights, 1 - decay)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside the block, the model has the averaged weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, parameter in self._parameters.items():
            kept = parameter.detach().clone(memory_format=torch.preserve_format)
            parameter.copy_(self.tensors[name])
            self.tensors[name].copy_(kept)
