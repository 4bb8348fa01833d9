"""Layers with spectrally normalized kernels."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from convae.core.arguments import Positive
from convae.core.context import Context
from convae.core.description import LayerList
from convae.core.slices import batch_slices
from convae.core.types import Shape
from convae.model.layers.base import ContextLayer, Layer, Network, ReceptiveField
from convae.model.layers.conv_transpose import ConvTranspose


class SpectralNorm(ContextLayer):
    """Layers whose kernels are divided by their largest singular value (Miyato et al. 2018, arXiv:1802.05957).

    A smooth decoder: RAE-SN (Ghosh et al. 2020, arXiv:1903.12436) normalizes every layer of the decoder. A kernel is
    the matrix (output channel, all others). The singular value is estimated by the power method from the vector of the
    step before, which is part of the checkpoint; biases, and the gains of norms, are not normalized. Leave out batch
    norm, which would scale the values up again.

    Args:
        shape: (channels, *sizes).
        layers: a list of layers.
        iterations: of the power method in each pass.
    """

    example: ClassVar = {"layers": [{"conv": {"channels": 6}}, "relu", {"conv": {"channels": 4, "kernel": 1}}]}
    recomputes: ClassVar = False  # outside of a training step, the second pass would begin with another vector

    def __init__(self, shape: Shape, *, layers: LayerList, iterations: Positive = 1) -> None:
        super().__init__(shape)
        self.branch = Network(shape, layers, "layers")
        self.iterations = iterations
        self._kernels = [
            (f"{name}.weight", isinstance(layer, ConvTranspose))
            for name, layer in self.branch.named_modules()
            if isinstance(layer, Layer) and layer.fan_in() is not None
        ]
        for number, (_, matrix) in enumerate(self._matrices()):
            self.register_buffer(f"vector{number}", torch.empty(len(matrix), device=matrix.device))

    def forward(self, x: Tensor, context: Context | None = None) -> Tensor:
        """(batch, channel, *sizes) to the output shape of the layers."""
        kernels: dict[str, Tensor] = {}
        found: list[Tensor] = []
        for number, (name, matrix) in enumerate(self._matrices()):
            left, right = self._iterate(matrix.detach(), self.get_buffer(f"vector{number}"))
            found.append(left)
            kernels[name] = self.branch.get_parameter(name) / torch.dot(left, torch.mv(matrix, right))
        if self.training and not x.is_meta:
            with batch_slices() as slices:
                slices.add(self, torch.cat(found), self._keep)
        out: Tensor = functional_call(self.branch, kernels, (x, context))
        return out

    def shape_out(self) -> Shape:
        """The output shape of the layers."""
        return self.branch.shape_out

    def receptive_field(self) -> ReceptiveField | None:
        """The receptive field of the layers."""
        return self.branch.receptive_field()

    def reset(self, generator: torch.Generator) -> None:
        """Draws the vectors."""
        for vector in self.buffers(recurse=False):
            drawn = torch.randn(vector.shape, generator=generator)
            vector.copy_(F.normalize(drawn, dim=0))

    def _matrices(self) -> list[tuple[str, Tensor]]:
        """The name in `branch` and the matrix of each kernel, (output channel, all others)."""
        found = []
        for name, is_transposed in self._kernels:
            kernel = self.branch.get_parameter(name)
            found.append((name, (kernel.transpose(0, 1) if is_transposed else kernel).flatten(1)))
        return found

    @torch.no_grad()
    def _iterate(self, matrix: Tensor, vector: Tensor) -> tuple[Tensor, Tensor]:
        """Estimates of the singular vectors of the largest singular value."""
        for _ in range(self.iterations):
            right = F.normalize(torch.mv(matrix.T, vector), dim=0)
            vector = F.normalize(torch.mv(matrix, right), dim=0)
        return vector, right

    def _keep(self, found: Tensor) -> None:
        """Keeps the vectors for the next step; those of the slices of a batch are added, and equal."""
        vectors = list(self.buffers(recurse=False))
        for vector, own in zip(vectors, torch.split(found, [len(each) for each in vectors]), strict=True):
            vector.copy_(F.normalize(own, dim=0))
