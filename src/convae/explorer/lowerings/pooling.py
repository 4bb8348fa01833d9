"""Pooling, resizing and embeddings."""

from __future__ import annotations

from typing import Any

import torch

from convae.explorer.lowerings.base import as_value, lowers, per_axis, shape_of
from convae.explorer.program import Program, Value


@lowers("max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d")
def _pool(
    program: Program, node: torch.fx.Node, x: Value, kernel: Any, stride: Any = (), padding: Any = 0, *rest: Any,
) -> Value:  # fmt: skip
    axes = len(x.shape) - 2
    sizes = per_axis(kernel, axes)
    op = "max_pool" if "max_pool" in str(node.target) else "avg_pool"
    strides = per_axis(stride, axes) if stride else sizes
    return program.add(op, [x], shape_of(node), kernel=sizes, stride=strides, padding=per_axis(padding, axes))


@lowers("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d")
def _adaptive(program: Program, node: torch.fx.Node, x: Value, size: Any) -> Value:
    shape = shape_of(node)
    sizes = [own // new for own, new in zip(x.shape[2:], shape[2:], strict=True)]
    return program.add("avg_pool", [x], shape, kernel=sizes, stride=sizes, padding=[0] * len(sizes))


@lowers("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d")
def _nearest(program: Program, node: torch.fx.Node, x: Value, *_: Any) -> Value:
    return program.add("nearest", [x], shape_of(node))


@lowers("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d")
def _linear_resize(program: Program, node: torch.fx.Node, x: Value, size: Any, align: bool = False, *_: Any) -> Value:
    """One axis after the other: positions and weights of two values each."""
    shape = shape_of(node)
    for axis in range(2, len(shape)):
        if x.shape[axis] != shape[axis]:
            grown = (*x.shape[:axis], shape[axis], *x.shape[axis + 1 :])
            x = program.add("stretch", [x], grown, axis=axis, align=bool(align))
    return x


@lowers("embedding")
def _embedding(program: Program, node: torch.fx.Node, weight: Any, numbers: Value, *_: Any) -> Value:
    return program.add("embedding", [as_value(program, weight), numbers], shape_of(node))
