"""Sums, means and extremes along axes, and attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from convae.core.errors import ConfigError
from convae.explorer.lowerings.base import LOWERINGS, Lowering, as_value, kept_shape, lowers, shape_of
from convae.explorer.program import Program, Value


def _axes(given: Any, rank: int) -> list[int]:
    if given is None:
        return list(range(rank))
    return sorted(axis % rank for axis in ([given] if isinstance(given, int) else given))


def _reduced(op: str) -> Lowering:
    def lower(program: Program, node: torch.fx.Node, x: Value, axes: Any = None, *_: Any, **__: Any) -> Value:
        own = _axes(axes, len(x.shape))
        found = program.add(op, [x], kept_shape(x, own), axes=own)
        shape = shape_of(node)
        return found if shape == found.shape else program.add("reshape", [found], shape)

    return lower


for _name, _own in {"sum": "sum", "mean": "mean", "amax": "amax", "amin": "amin", "argmin": "argmin",
                    "argmax": "argmax"}.items():  # fmt: skip
    LOWERINGS[f"aten.{_name}"] = _reduced(_own)


@lowers("linalg_vector_norm")
def _vector_norm(
    program: Program, node: torch.fx.Node, x: Value, order: float = 2, axes: Any = None, *_: Any, **__: Any
) -> Value:
    if order != 2:
        raise ConfigError("the page in the browser has no norm but the Euclidean one")
    kept = kept_shape(x, _axes(axes, len(x.shape)))
    total = program.add("sum", [program.add("mul", [x, x], x.shape)], kept, axes=_axes(axes, len(x.shape)))
    found, shape = program.add("sqrt", [total], kept), shape_of(node)
    return found if shape == found.shape else program.add("reshape", [found], shape)


@lowers("var_mean")
def _var_mean(
    program: Program, node: torch.fx.Node, x: Value, axes: Any = None, *, correction: float | None = 1,
    keepdim: bool = False,
) -> list[Value]:  # fmt: skip
    own = _axes(axes, len(x.shape))
    kept = kept_shape(x, own)
    count = math.prod(x.shape[axis] for axis in own)
    mean = program.add("mean", [x], kept, axes=own)
    centered = program.add("sub", [x, mean], x.shape)
    squares = program.add("mul", [centered, centered], x.shape)
    total = program.add("sum", [squares], kept, axes=own)
    divisor = as_value(program, max(1.0, count - (1 if correction is None else correction)))
    variance = program.add("div", [total, divisor], kept)
    shapes = [tuple(each.shape) for each in node.meta["val"]]
    return [
        each if each.shape == shape else program.add("reshape", [each], shape)
        for each, shape in zip((variance, mean), shapes, strict=True)
    ]


@lowers("layer_norm")
def _layer_norm(
    program: Program, node: torch.fx.Node, x: Value, shape: Sequence[int], weight: Tensor | None = None,
    bias: Tensor | None = None, eps: float = 1e-5, *_: Any,
) -> Value:  # fmt: skip
    rows = math.prod(x.shape[: -len(shape)])
    flat = program.add("reshape", [x], (rows, 1, math.prod(shape)))
    weights = {"weight": torch.ones(1), "bias": torch.zeros(1)}
    normal = program.add("group_norm", [flat], flat.shape, weights=weights, groups=1, eps=eps)
    found = program.add("reshape", [normal], x.shape)
    for op, tensor in (("mul", weight), ("add", bias)):
        if tensor is not None:
            found = program.add(op, [found, program.constant(tensor)], x.shape)
    return found


@lowers("softmax", "_softmax")
def _softmax(program: Program, node: torch.fx.Node, x: Value, axis: int, *_: Any) -> Value:
    own = [axis % len(x.shape)]
    largest = program.add("amax", [x], kept_shape(x, own), axes=own)
    powers = program.add("exp", [program.add("sub", [x, largest], x.shape)], x.shape)
    return program.add("div", [powers, program.add("sum", [powers], kept_shape(x, own), axes=own)], x.shape)


@lowers("log_softmax", "_log_softmax")
def _log_softmax(program: Program, node: torch.fx.Node, x: Value, axis: int, *_: Any) -> Value:
    own = [axis % len(x.shape)]
    kept = kept_shape(x, own)
    centered = program.add("sub", [x, program.add("amax", [x], kept, axes=own)], x.shape)
    total = program.add("sum", [program.add("exp", [centered], x.shape)], kept, axes=own)
    return program.add("sub", [centered, program.add("log", [total], kept)], x.shape)


@lowers("scaled_dot_product_attention")
def _attention(
    program: Program, node: torch.fx.Node, query: Value, key: Value, value: Value, *_: Any,
    scale: float | None = None, **__: Any,
) -> Value:  # fmt: skip
    rank = len(query.shape)
    turned = (*key.shape[:-2], key.shape[-1], key.shape[-2])
    keys = program.add("permute", [key], turned, axes=[*range(rank - 2), rank - 1, rank - 2])
    scores = program.add("matmul", [query, keys], (*query.shape[:-1], key.shape[-2]))
    factor = as_value(program, 1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    weights: Value = _softmax(program, node, program.add("mul", [scores, factor], scores.shape), -1)
    return program.add("matmul", [weights, value], shape_of(node))
