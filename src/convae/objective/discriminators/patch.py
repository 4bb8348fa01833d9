"""Discriminator of patches."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from convae.core.arguments import Positive
from convae.core.errors import ShapeError
from convae.core.names import shape_text
from convae.core.types import Images, Shape
from convae.objective.discriminators._norms import ActNorm, add_spectral_norm, spectral_norms
from convae.objective.discriminators.base import Discriminator

Norm = Literal["spectral", "actnorm", "group", "none"]
SLOPE = 0.2
"""Slope of the leaky ReLUs below zero."""
WIDEST = 8
"""Largest number of channels, as a multiple of those of the first layer."""
KERNEL = 4


class Patch(Discriminator):
    """Logits of overlapping patches: convolutions of stride 2, with leaky ReLUs (PatchGAN, arXiv:1611.07004).

    Args:
        image_shape: channels, then sizes; 1-D, 2-D or 3-D.
        channels: of the first layer; doubled in each of the next, up to eight times as many.
        layers: number of convolutions of stride 2. The patches are 16, 34, 70 and 142 pixels wide for 1 to 4.
        norm: `spectral` normalizes the weights (Miyato et al. 2018), `actnorm` scales and shifts channels by the
            statistics of the first batch (as in VQGAN, arXiv:2012.09841), `group` is group norm with groups of 16
            channels.
    """

    example: ClassVar = {"channels": 4, "layers": 1}

    def __init__(
        self, image_shape: Shape, *, channels: Positive = 64, layers: Positive = 3, norm: Norm = "spectral"
    ) -> None:
        super().__init__(image_shape)
        self.norm = norm
        smallest = min(image_shape[1:])
        # The last two convolutions of stride 1 lose one pixel each.
        if smallest >> layers < KERNEL - 1:
            most = max(0, int(math.log2(smallest / (KERNEL - 1))))
            advice = f"Set layers to at most {most}" if most else f"It needs at least {2 * (KERNEL - 1)} pixels"
            raise ShapeError(f"images {shape_text(image_shape)} are too small for {layers} layers. {advice}")
        widths = [channels * min(2**number, WIDEST) for number in range(layers + 1)]
        made: list[nn.Module] = [self._convolution(image_shape[0], widths[0], 2), nn.LeakyReLU(SLOPE)]
        for number, (before, after) in enumerate(pairwise(widths), start=1):
            made += [self._convolution(before, after, 2 if number < layers else 1), *self._normalization(after)]
            made += [nn.LeakyReLU(SLOPE)]
        self.network = nn.Sequential(*made, self._convolution(widths[-1], 1, 1))
        self.reset()

    def forward(self, images: Images) -> tuple[Tensor, ...]:
        """(batch, channel, *sizes) in [0, 1] to logits, one tensor (batch, patch)."""
        logits: Tensor = self.network(2 * images - 1)
        return (logits.flatten(1),)

    def features(self, images: Images) -> tuple[tuple[Tensor, ...], ...]:
        """(batch, channel, *sizes) in [0, 1] to the outputs of the leaky ReLUs, (batch, channel, *sizes) each."""
        found: list[Tensor] = []
        values = 2 * images - 1
        for layer in list(self.network)[:-1]:
            values = layer(values)
            if isinstance(layer, nn.LeakyReLU):
                found.append(values)
        return (tuple(found),)

    @torch.no_grad()
    def reset(self, generator: torch.Generator | None = None) -> None:
        """Normal weights of gain √2, and biases of 0."""
        norms = {id(weight): norm for norm, weight in spectral_norms(self)}
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif parameter.ndim > 1:
                scale = math.sqrt(2 / parameter[0].numel())
                parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
                if id(parameter) in norms:
                    norms[id(parameter)].reset(parameter, generator)
        for module in self.modules():
            if isinstance(module, ActNorm):
                module.reset()

    def after_step(self) -> None:
        """A step of the power method of spectral norms."""
        for norm, weight in spectral_norms(self):
            norm.iterate(weight)
        for module in self.modules():
            if isinstance(module, ActNorm):
                module.after_step()

    def _convolution(self, before: int, after: int, stride: int) -> nn.Module:
        kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(self.image_shape) - 2]
        made = kind(before, after, KERNEL, stride, padding=1)
        return add_spectral_norm(made) if self.norm == "spectral" else made

    def _normalization(self, channels: int) -> list[nn.Module]:
        if self.norm == "actnorm":
            return [ActNorm(channels)]
        return [nn.GroupNorm(max(1, channels // 16), channels)] if self.norm == "group" else []
