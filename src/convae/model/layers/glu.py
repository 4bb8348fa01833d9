"""Gated linear unit."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from convae.core.arguments import Named
from convae.core.errors import ShapeError
from convae.core.types import Shape
from convae.model.layers.base import Layer, Network


class GLU(Layer):
    """Gated linear unit: the first half of the channels times the activated second half (Shazeer 2020).

    Args:
        shape: (channels, *sizes) with an even number of channels.
        activation: activation of the gate; `silu` in arXiv:2002.05202 (SwiGLU) and DC-AE, `sigmoid` in
            arXiv:1612.08083.
    """

    example: ClassVar = {"activation": "silu"}

    def __init__(self, shape: Shape, *, activation: Named = "silu") -> None:
        super().__init__(shape)
        if shape[0] % 2:
            raise ShapeError(f"expected an even number of channels, half of them for the gate, got {shape[0]}")
        half = (shape[0] // 2, *shape[1:])
        self.gate = Network(half, [activation], "activation")
        if self.gate.shape_out != half:
            raise ShapeError("its activation changes the shape. Use one that keeps it, such as silu")

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channel, *sizes) to (batch, half of the channels, *sizes)."""
        values, gate = x.chunk(2, 1)
        return torch.mul(values, self.gate(gate))

    def shape_out(self) -> Shape:
        """Half of the channels."""
        return (self.shape_in[0] // 2, *self.shape_in[1:])
