"""Equivariance of the decoder to scale and rotation."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from convae.core.errors import ConfigError
from convae.core.noise import CountedNoise, draw_integers
from convae.core.random import torch_generator
from convae.core.types import PerImage, Shape
from convae.objective.terms._latents import require_latent_map
from convae.objective.terms.base import LossInputs, Term

STREAM = "equivariance"
"""Name of the noise that chooses the transformations."""


class Transformation(NamedTuple):
    """A change of size, then quarter turns.

    Attributes:
        sizes: the sizes of the latent map before it is turned.
        turns: number of quarter turns.
    """

    sizes: tuple[int, int]
    turns: int


class Equivariance(Term):
    """−log p(τ x | τ z): decoding a latent map that is scaled down and rotated gives the image scaled and rotated.

    EQ-VAE (Kouzelis et al. 2025, arXiv:2502.09509): latent maps without detail that only the decoder can read, on which
    diffusion and flow models train faster. Beside `reconstruction`, for one latent map of an image. The decoder runs
    once more, on smaller maps.

    Each step draws one τ for its batch: a size of the map in [`least_scale`, 1), and one, two or three quarter turns;
    images and maps are interpolated bilinearly. The value is divided by the fraction of the pixels that remain, so that
    it is comparable with `reconstruction` at any scale. Without gradients, it is the mean over the turns at the middle
    scale.

    Args:
        least_scale: smallest scale of the map; 1 for no scaling, as models with one size of images need.
        turns: whether to rotate.
    """

    unit: ClassVar = "nats"

    def __init__(self, *, least_scale: Annotated[float, Field(gt=0, le=1)] = 0.25, turns: bool = True) -> None:
        super().__init__()
        if least_scale == 1 and not turns:
            raise ConfigError("transforms nothing. Set least_scale below 1, or turns: true")
        self.least_scale, self.turns = least_scale, turns

    def bind(self, latent_shape: Shape, image_shape: Shape) -> None:
        """Checks that the latent is a map.

        Raises:
            ConfigError: it is a vector, has one position, or is not of images with height and width.
        """
        require_latent_map(latent_shape, positions=2)

    def forward(self, inputs: LossInputs) -> PerImage:
        """The value of each image."""
        self.bind(tuple(inputs.output.latent.shape[1:]), tuple(inputs.images.shape[1:]))
        if self.least_scale < 1:
            _require_scalable(inputs)
        chosen = [self._drawn(inputs)] if torch.is_grad_enabled() else self._fixed(inputs)
        return torch.stack([_value(inputs, each) for each in chosen]).mean(0)

    def _drawn(self, inputs: LossInputs) -> Transformation:
        """The transformation of a step: the same for all images, slices and ranks."""
        noise = inputs.calls.noise(STREAM)
        if isinstance(noise, CountedNoise):
            generator = torch_generator(noise.seed, *noise.words)
        else:
            generator = torch_generator(0, STREAM, inputs.moment.step)
        lengths, turns = self._lengths(inputs), self._turns(inputs)
        numbers = (int(draw_integers(len(options), (1,), generator)) for options in (lengths, turns))
        length, turn = next(numbers), next(numbers)
        return Transformation(_scaled(inputs, lengths[length]), turns[turn])

    def _fixed(self, inputs: LossInputs) -> list[Transformation]:
        """The transformations of a metric."""
        lengths = self._lengths(inputs)
        sizes = _scaled(inputs, lengths[len(lengths) // 2])
        return [Transformation(sizes, turns) for turns in self._turns(inputs)]

    def _lengths(self, inputs: LossInputs) -> list[int]:
        """The possible lengths of the longer axis of the map."""
        longest = max(inputs.output.latent.shape[2:])
        return list(range(math.ceil(self.least_scale * longest), longest)) or [longest]

    def _turns(self, inputs: LossInputs) -> list[int]:
        """The possible numbers of quarter turns; a map of a fixed size that is not square keeps its axes."""
        height, width = inputs.output.latent.shape[2:]
        if not self.turns:
            return [0]
        return [1, 2, 3] if height == width or inputs.calls.is_resizable else [2]


def _require_scalable(inputs: LossInputs) -> None:
    """Checks that latents can be scaled.

    Raises:
        ConfigError: the model has images of one size, or its latents are codes.
    """
    if inputs.output.posterior.is_discrete:
        raise ConfigError("interpolated codes are no codes. Set least_scale: 1, or remove this term")
    if not inputs.calls.is_resizable:
        raise ConfigError("the decoder takes latents of one size. Set least_scale: 1, or remove this term")


def _scaled(inputs: LossInputs, length: int) -> tuple[int, int]:
    """The sizes of the map with another length of its longer axis."""
    height, width = inputs.output.latent.shape[2:]
    scale = length / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _value(inputs: LossInputs, chosen: Transformation) -> PerImage:
    """−log p of the transformed images, divided by the fraction of pixels."""
    likelihood = inputs.calls.decode(_transformed(inputs.output.latent, chosen))
    height, width = likelihood.mean.shape[2:]
    sizes = (width, height) if chosen.turns % 2 else (height, width)
    images = _transformed(inputs.images, Transformation(sizes, chosen.turns))
    fraction = height * width / math.prod(inputs.images.shape[2:])
    return -likelihood.log_prob(images) / fraction


def _transformed(maps: Tensor, chosen: Transformation) -> Tensor:
    """(batch, channel, height, width), scaled and turned."""
    if chosen.sizes != tuple(maps.shape[2:]):
        maps = F.interpolate(maps, size=chosen.sizes, mode="bilinear", align_corners=False)
    return torch.rot90(maps, chosen.turns, (2, 3))
