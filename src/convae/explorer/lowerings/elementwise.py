"""Operations on single values, and on two values each."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from convae.explorer.lowerings.base import LOWERINGS, Lowering, as_value, lowers, shape_of
from convae.explorer.program import Program, Value


def _unary(name: str) -> Lowering:
    def lower(program: Program, node: torch.fx.Node, x: Value) -> Value:
        return program.add(name, [x], x.shape)

    return lower


for _name in ("relu", "sigmoid", "tanh", "silu", "exp", "expm1", "log", "log1p", "neg", "square", "sqrt", "rsqrt",
              "round", "abs", "erf", "sin", "cos", "atanh", "floor", "sign", "reciprocal"):  # fmt: skip
    LOWERINGS[f"aten.{_name}"] = _unary(_name)


@lowers("gelu")
def _gelu(program: Program, node: torch.fx.Node, x: Value, approximate: str = "none") -> Value:
    return program.add("gelu" if approximate == "none" else "gelu_tanh", [x], x.shape)


@lowers("leaky_relu")
def _leaky_relu(program: Program, node: torch.fx.Node, x: Value, slope: float = 0.01) -> Value:
    return program.add("leaky_relu", [x], x.shape, slope=slope)


@lowers("softplus")
def _softplus(program: Program, node: torch.fx.Node, x: Value, beta: float = 1.0, threshold: float = 20.0) -> Value:
    return program.add("softplus", [x], x.shape, beta=beta, threshold=threshold)


@lowers("elu")
def _elu(program: Program, node: torch.fx.Node, x: Value, alpha: float = 1.0, *_: float) -> Value:
    return program.add("elu", [x], x.shape, alpha=alpha)


@lowers("clamp", "clamp_min", "clamp_max", "hardtanh")
def _clamp(
    program: Program, node: torch.fx.Node, x: Value, low: float | None = None, high: float | None = None
) -> Value:
    if "clamp_max" in str(node.target):
        low, high = None, low
    return program.add("clamp", [x], x.shape, low=low, high=high)


@lowers("prelu")
def _prelu(program: Program, node: torch.fx.Node, x: Value, weight: Tensor) -> Value:
    slopes = weight.reshape(-1, *(1,) * (len(x.shape) - 2))
    return program.add("prelu", [x, program.constant(slopes)], x.shape)


def _binary(name: str) -> Lowering:
    def lower(program: Program, node: torch.fx.Node, a: Any, b: Any, alpha: float = 1, **_: Any) -> Value:
        left, right = as_value(program, a), as_value(program, b)
        if alpha != 1:
            right = program.add("mul", [right, as_value(program, alpha)], right.shape)
        return program.add(name, [left, right], shape_of(node))

    return lower


for _name, _own in {
    "add": "add", "sub": "sub", "mul": "mul", "div": "div", "maximum": "max", "minimum": "min", "pow": "pow",
    "remainder": "remainder", "floor_divide": "floor_divide", "gt": "gt", "lt": "lt", "ge": "ge", "le": "le",
    "eq": "eq", "true_divide": "div",
}.items():  # fmt: skip
    LOWERINGS[f"aten.{_name}"] = _binary(_own)


@lowers("rsub")
def _rsub(program: Program, node: torch.fx.Node, a: Any, b: Any) -> Value:
    return program.add("sub", [as_value(program, b), as_value(program, a)], shape_of(node))


@lowers("where")
def _where(program: Program, node: torch.fx.Node, condition: Any, a: Any, b: Any) -> Value:
    return program.add("where", [as_value(program, each) for each in (condition, a, b)], shape_of(node))


@lowers("addcmul")
def _addcmul(program: Program, node: torch.fx.Node, x: Any, a: Any, b: Any, value: float = 1) -> Value:
    left, right = as_value(program, a), as_value(program, b)
    product = program.add("mul", [left, right], tuple(torch.broadcast_shapes(left.shape, right.shape)))
    if value != 1:
        product = program.add("mul", [product, as_value(program, value)], product.shape)
    return program.add("add", [as_value(program, x), product], shape_of(node))
