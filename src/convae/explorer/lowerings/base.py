"""What the lowerings share: their registry, and the shapes and values of traced nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from convae.core.types import Shape
from convae.explorer.program import Program, Value

Lowering = Callable[..., Any]
LOWERINGS: dict[str, Lowering] = {}
"""A function for each operation, which takes the program, the traced node and the operation's own arguments."""


def shape_of(node: torch.fx.Node) -> Shape:
    """The shape of the result of a node."""
    return tuple(int(size) for size in node.meta["val"].shape)


def as_value(program: Program, given: Any) -> Value:
    """An argument as the result of a step: constants and numbers become one."""
    if isinstance(given, Value):
        return given
    return program.constant(given if isinstance(given, Tensor) else torch.tensor(float(given)))


def lowers(*names: str) -> Callable[[Lowering], Lowering]:
    """Registers a function for operations of torch."""

    def register(function: Lowering) -> Lowering:
        LOWERINGS.update(dict.fromkeys((f"aten.{name}" for name in names), function))
        return function

    return register


def kept_shape(x: Value, axes: Sequence[int]) -> Shape:
    """The shape of a reduction over axes, which keep a size of one."""
    return tuple(1 if axis in axes else size for axis, size in enumerate(x.shape))


def per_axis(given: Any, axes: int) -> list[int]:
    """An argument for each spatial axis."""
    values = [given] if isinstance(given, int) else list(given)
    return values * axes if len(values) == 1 else values
