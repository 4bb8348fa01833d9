"""Operations that move values: reshaping, slices, concatenation, padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from convae.explorer.lowerings.base import as_value, lowers, shape_of
from convae.explorer.program import Program, Value


@lowers("to", "_to_copy", "detach", "detach_", "alias", "clone", "contiguous", "lift_fresh_copy", "dropout", "type_as")
def _same(program: Program, node: torch.fx.Node, x: Value, *_: Any, **__: Any) -> Value:
    source: Any = node.args[0]
    if not node.meta["val"].dtype.is_floating_point and source.meta["val"].dtype.is_floating_point:
        return program.add("trunc", [x], x.shape)
    return x


@lowers("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "_unsafe_view")
def _reshaped(program: Program, node: torch.fx.Node, x: Value, *_: Any, **__: Any) -> Value:
    shape = shape_of(node)
    return x if shape == x.shape else program.add("reshape", [x], shape)


@lowers("permute")
def _permute(program: Program, node: torch.fx.Node, x: Value, axes: Sequence[int]) -> Value:
    return program.add("permute", [x], shape_of(node), axes=[axis % len(x.shape) for axis in axes])


@lowers("transpose", "movedim", "t")
def _moved(program: Program, node: torch.fx.Node, x: Value, a: Any = 0, b: Any = 1) -> Value:
    """Axes in the order that torch gives a tensor whose axes are numbered by their sizes."""
    numbered = torch.empty(tuple(range(2, 2 + len(x.shape))), device="meta")
    moved = numbered.movedim(a, b) if "movedim" in str(node.target) else numbered.transpose(a, b)
    return program.add("permute", [x], shape_of(node), axes=[size - 2 for size in moved.shape])


@lowers("slice")
def _slice(
    program: Program, node: torch.fx.Node, x: Value, axis: int = 0, begin: int | None = None,
    end: int | None = None, step: int = 1,
) -> Value:  # fmt: skip
    axis %= len(x.shape)
    first, _, stride = slice(begin, end, step).indices(x.shape[axis])
    shape = shape_of(node)
    return x if shape == x.shape else program.add("slice", [x], shape, axis=axis, begin=first, step=stride)


@lowers("narrow")
def _narrow(program: Program, node: torch.fx.Node, x: Value, axis: int, begin: int, length: int) -> Value:
    return _part(program, x, axis, begin, length)


@lowers("select")
def _select(program: Program, node: torch.fx.Node, x: Value, axis: int, index: int) -> Value:
    part = _part(program, x, axis, index % x.shape[axis], 1)
    return program.add("reshape", [part], shape_of(node))


def _part(program: Program, x: Value, axis: int, begin: int, length: int) -> Value:
    axis %= len(x.shape)
    shape = (*x.shape[:axis], length, *x.shape[axis + 1 :])
    return program.add("slice", [x], shape, axis=axis, begin=begin, step=1)


@lowers("chunk", "split", "split_with_sizes")
def _split(program: Program, node: torch.fx.Node, x: Value, sizes: Any, axis: int = 0) -> list[Value]:
    axis %= len(x.shape)
    parts, begin = [], 0
    for value in node.meta["val"]:
        length = int(value.shape[axis])
        parts.append(_part(program, x, axis, begin, length))
        begin += length
    return parts


@lowers("unbind")
def _unbind(program: Program, node: torch.fx.Node, x: Value, axis: int = 0) -> list[Value]:
    axis %= len(x.shape)
    shape = (*x.shape[:axis], *x.shape[axis + 1 :])
    parts = [_part(program, x, axis, index, 1) for index in range(x.shape[axis])]
    return [program.add("reshape", [part], shape) for part in parts]


@lowers("cat")
def _cat(program: Program, node: torch.fx.Node, parts: Sequence[Any], axis: int = 0) -> Value:
    shape = shape_of(node)
    return program.add("cat", [as_value(program, part) for part in parts], shape, axis=axis % len(shape))


@lowers("stack")
def _stack(program: Program, node: torch.fx.Node, parts: Sequence[Any], axis: int = 0) -> Value:
    shape = shape_of(node)
    axis %= len(shape)
    one = (*shape[:axis], 1, *shape[axis + 1 :])
    flat = [program.add("reshape", [as_value(program, part)], one) for part in parts]
    return program.add("cat", flat, shape, axis=axis)


@lowers("expand", "expand_as")
def _expand(program: Program, node: torch.fx.Node, x: Value, *_: Any) -> Value:
    return program.add("expand", [x], shape_of(node))


@lowers("pad", "constant_pad_nd")
def _pad(
    program: Program, node: torch.fx.Node, x: Value, widths: Sequence[int], mode: str | float = "constant",
    value: float | None = None,
) -> Value:  # fmt: skip
    kind, fill = (mode, value or 0) if isinstance(mode, str) else ("constant", mode)
    before = [0] * len(x.shape)
    for number in range(len(widths) // 2):
        before[len(x.shape) - 1 - number] = widths[2 * number]
    return program.add("pad", [x], shape_of(node), before=before, mode=kind, value=fill)


@lowers("full_like", "zeros_like", "ones_like", "new_zeros", "new_full")
def _filled(program: Program, node: torch.fx.Node, x: Value, *rest: Any, **_: Any) -> Tensor:
    numbers = [one for one in rest if isinstance(one, int | float)]
    fill = 1.0 if "ones" in str(node.target) else numbers[-1] if numbers else 0.0
    return torch.full(shape_of(node), float(fill))
