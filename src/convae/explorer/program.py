"""A network as a list of operations with fixed shapes, which the page in the browser computes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from convae.core.types import Shape


@dataclass
class Step:
    """One operation of a program.

    Attributes:
        op: name of the operation in `web/operations.js`.
        inputs: numbers of the steps that it takes.
        shape: of the result.
        options: further arguments, as JSON.
        weights: tensors that belong to the step, by name.
        is_shared: whether several later steps use its result, so that nothing may be folded into it.
    """

    op: str
    inputs: list[int]
    shape: Shape
    options: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)
    is_shared: bool = False


@dataclass(frozen=True)
class Value:
    """The result of a step, in the lowering of a graph."""

    step: int
    shape: Shape


class Program:
    """Steps in the order in which they are computed, for a batch of one.

    Attributes:
        steps: operations.
        inputs: step of each input by name.
        outputs: step of each output by name.
    """

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.inputs: dict[str, int] = {}
        self.outputs: dict[str, int] = {}

    def add(
        self, op: str, inputs: Sequence[Value], shape: Sequence[int], *, weights: dict[str, Tensor] | None = None,
        **options: Any,
    ) -> Value:  # fmt: skip
        """Appends a step and returns its result."""
        self.steps.append(Step(op, [each.step for each in inputs], tuple(shape), options, weights or {}))
        return Value(len(self.steps) - 1, tuple(shape))

    def constant(self, tensor: Tensor) -> Value:
        """A constant as a step."""
        return self.add("constant", [], tensor.shape, weights={"values": tensor})

    def as_json(self, blob: bytearray) -> dict[str, Any]:
        """The program for the page; its weights are appended to `blob` as little-endian float32."""
        steps: list[list[Any]] = []
        for step in self.steps:
            weights: dict[str, Any] = {name: self._place(tensor, blob) for name, tensor in step.weights.items()}
            steps.append([step.op, step.inputs, list(step.shape), {**step.options, **weights}])
        return {"steps": steps, "inputs": self.inputs, "outputs": self.outputs}

    @staticmethod
    def _place(tensor: Tensor, blob: bytearray) -> list[int]:
        """Offset and length of a tensor, counted in values."""
        begin, values = len(blob) // 4, tensor.detach().to("cpu", torch.float32).contiguous()
        blob += values.numpy().astype("<f4").tobytes()
        return [begin, math.prod(tensor.shape)]
