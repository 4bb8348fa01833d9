"""Convolutions, linear layers and norms."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from convae.explorer.lowerings.base import as_value, lowers, per_axis, shape_of
from convae.explorer.program import Program, Value


@lowers("conv1d", "conv2d", "conv3d")
def _conv(
    program: Program, node: torch.fx.Node, x: Value, weight: Tensor, bias: Tensor | None = None, stride: Any = 1,
    padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> Value:  # fmt: skip
    axes = len(x.shape) - 2
    strides, dilations = per_axis(stride, axes), per_axis(dilation, axes)
    if isinstance(padding, str):
        sizes = [(size - 1) * step for size, step in zip(weight.shape[2:], dilations, strict=True)]
        padding = [0 if padding == "valid" else size // 2 for size in sizes]
    bias = torch.zeros(weight.shape[0]) if bias is None else bias
    return program.add(
        "conv", [x], shape_of(node), weights={"weight": weight, "bias": bias}, kernel=list(weight.shape[2:]),
        stride=strides, padding=per_axis(padding, axes), dilation=dilations, groups=groups,
    )  # fmt: skip


@lowers("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _conv_transpose(
    program: Program, node: torch.fx.Node, x: Value, weight: Tensor, bias: Tensor | None = None, stride: Any = 1,
    padding: Any = 0, output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Value:  # fmt: skip
    axes = len(x.shape) - 2
    bias = torch.zeros(weight.shape[1] * groups) if bias is None else bias
    return program.add(
        "conv_transpose", [x], shape_of(node), weights={"weight": weight, "bias": bias}, kernel=list(weight.shape[2:]),
        stride=per_axis(stride, axes), padding=per_axis(padding, axes), dilation=per_axis(dilation, axes),
        groups=groups,
    )  # fmt: skip


@lowers("linear")
def _linear(program: Program, node: torch.fx.Node, x: Value, weight: Tensor, bias: Tensor | None = None) -> Value:
    bias = torch.zeros(weight.shape[0]) if bias is None else bias
    return program.add("linear", [x], shape_of(node), weights={"weight": weight, "bias": bias})


@lowers("matmul", "bmm", "mm")
def _matmul(program: Program, node: torch.fx.Node, a: Any, b: Any) -> Value:
    return program.add("matmul", [as_value(program, a), as_value(program, b)], shape_of(node))


@lowers("addmm")
def _addmm(program: Program, node: torch.fx.Node, bias: Any, a: Any, b: Any) -> Value:
    product = program.add("matmul", [as_value(program, a), as_value(program, b)], shape_of(node))
    return program.add("add", [product, as_value(program, bias)], shape_of(node))


@lowers("batch_norm")
def _batch_norm(
    program: Program, node: torch.fx.Node, x: Value, weight: Tensor | None, bias: Tensor | None, mean: Tensor,
    variance: Tensor, training: bool, momentum: float, eps: float, *_: Any,
) -> Value:  # fmt: skip
    """A factor and a summand for each channel, folded into the convolution before it."""
    scale = (1 if weight is None else weight) * torch.rsqrt(variance + eps)
    shift = (0 if bias is None else bias) - mean * scale
    before = program.steps[x.step]
    if before.op in ("conv", "conv_transpose") and not before.is_shared and before.options["groups"] == 1:
        axis = 0 if before.op == "conv" else 1
        wide = scale.reshape([-1 if own == axis else 1 for own in range(before.weights["weight"].ndim)])
        before.weights = {
            "weight": before.weights["weight"] * wide,
            "bias": before.weights["bias"] * scale + shift,
        }
        return x
    maps = (-1, *(1,) * (len(x.shape) - 2))
    scaled = program.add("mul", [x, program.constant(scale.reshape(maps))], x.shape)
    return program.add("add", [scaled, program.constant(shift.reshape(maps))], x.shape)


@lowers("group_norm")
def _group_norm(
    program: Program, node: torch.fx.Node, x: Value, groups: int, weight: Tensor | None = None,
    bias: Tensor | None = None, eps: float = 1e-5, *_: Any,
) -> Value:  # fmt: skip
    channels = x.shape[1]
    weights = {
        "weight": torch.ones(channels) if weight is None else weight,
        "bias": torch.zeros(channels) if bias is None else bias,
    }
    return program.add("group_norm", [x], x.shape, weights=weights, groups=groups, eps=eps)


@lowers("instance_norm")
def _instance_norm(
    program: Program, node: torch.fx.Node, x: Value, weight: Tensor | None = None, bias: Tensor | None = None,
    mean: Any = None, variance: Any = None, use_input: bool = True, momentum: float = 0.1, eps: float = 1e-5, *_: Any,
) -> Value:  # fmt: skip
    own: Value = _group_norm(program, node, x, x.shape[1], weight, bias, eps)
    return own
