"""Normalization in discriminators that does not depend on other images of the batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from convae.core.collective import shared_sum
from convae.core.precision import at_least_float32, full_precision
from convae.core.slices import batch_slices

SMALLEST_SCALE = 1e-6
"""Smallest standard deviation that activation normalization divides by."""


class SpectralNorm(nn.Module):
    """Divides a weight by an estimate of its largest singular value (Miyato et al. 2018, arXiv:1802.05957).

    As a parametrization. Unlike torch's, the estimate changes in `iterate` only, so that all passes of a step have the
    same weight.

    Args:
        weight: (output, …), flattened to a matrix.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        rows, columns = weight.flatten(1).shape
        self.register_buffer("left", weight.new_empty(rows))
        self.register_buffer("right", weight.new_empty(columns))

    left: Tensor
    right: Tensor

    def forward(self, weight: Tensor) -> Tensor:
        """The weight with a spectral norm of about 1."""
        with full_precision(weight.device):
            # Copies, since `iterate` changes the vectors before the backward pass of another update.
            norm = torch.dot(self.left.clone(), torch.mv(weight.flatten(1), self.right.clone()))
            return weight / norm

    @torch.no_grad()
    def iterate(self, weight: Tensor, steps: int = 1) -> None:
        """Steps of the power method."""
        matrix = weight.flatten(1)
        with full_precision(weight.device):
            for _ in range(steps):
                self.left.copy_(F.normalize(torch.mv(matrix, self.right), dim=0))
                self.right.copy_(F.normalize(torch.mv(matrix.T, self.left), dim=0))

    def reset(self, weight: Tensor, generator: torch.Generator | None = None) -> None:
        """Starts from a random vector, and estimates the norm."""
        self.right.copy_(F.normalize(torch.randn(self.right.shape, generator=generator), dim=0))
        self.iterate(weight, 15)


class ActNorm(nn.Module):
    """Scale and shift of each channel, such that the first batch has mean 0 and variance 1.

    Kingma & Dhariwal 2018 (arXiv:1807.03039). Computed in float32 or wider.

    Args:
        channels: of the features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))
        self.shift = nn.Parameter(torch.zeros(channels))
        self.register_buffer("started", torch.zeros(()))
        self._is_known = False

    started: Tensor

    @property
    def is_initialized(self) -> bool:
        """Whether a batch has initialized scale and shift; until then, a call synchronizes with the device."""
        return self._is_known or bool(self.started)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channel, *sizes), of the same shape."""
        if self.training and not self.is_initialized:
            with batch_slices() as slices:
                slices.start(self, at_least_float32(x.detach()).transpose(0, 1).flatten(1).T, self._start)
        shape = (1, -1, *(1,) * (x.ndim - 2))
        found: Tensor = (at_least_float32(x) + self.shift.view(shape)) * self.scale.view(shape)
        return found.to(x.dtype)

    @torch.no_grad()
    def _start(self, values: Tensor) -> None:
        """Initializes from (value, channel) of the batch on this rank."""
        count = shared_sum(values.new_full((1,), len(values)))
        mean = shared_sum(values.sum(0)) / count
        variance = shared_sum((values - mean).square().sum(0)) / count
        self.shift.copy_(-mean)
        self.scale.copy_(1 / variance.sqrt().clamp_min(SMALLEST_SCALE))
        self.started.fill_(1)

    def after_step(self) -> None:
        """Caches whether it is initialized; a skipped step has restored the buffer."""
        self._is_known = self._is_known or bool(self.started)

    def reset(self) -> None:
        """Resets scale and shift; the next training batch initializes them."""
        nn.init.ones_(self.scale)
        nn.init.zeros_(self.shift)
        self.started.zero_()
        self._is_known = False


def add_spectral_norm(layer: nn.Module) -> nn.Module:
    """The layer with a `SpectralNorm` of its weight."""
    assert isinstance(layer.weight, Tensor)
    parametrize.register_parametrization(layer, "weight", SpectralNorm(layer.weight), unsafe=True)
    return layer


def spectral_norms(module: nn.Module) -> list[tuple[SpectralNorm, Tensor]]:
    """Every `SpectralNorm` in a module with its raw weight."""
    found = [each for each in module.modules() if isinstance(each, parametrize.ParametrizationList)]
    return [(own[0], own.original) for own in found if isinstance(own[0], SpectralNorm)]
