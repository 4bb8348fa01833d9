"""Sources of the noise of a forward pass."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from convae.core.device import copy_to_device
from convae.core.errors import ConfigError, ShapeError
from convae.core.names import count_text
from convae.core.random import stream_keys, torch_generator

BLOCK = 256
"""Number of images whose noise `CountedNoise` draws at once; small, since a rank draws all images of a block."""


@dataclass(frozen=True)
class CountedNoise:
    """Counter-based noise for images of a global batch: the same for any number of ranks and accumulation steps.

    Attributes:
        seed: seed of the stream.
        words: further keys of the stream, such as the step.
        start: position of the first image in the global batch.
        global_size: images in the global batch.
        scale: standard deviation of normal values.
    """

    seed: int
    words: tuple[int | str, ...]
    start: int
    global_size: int
    scale: float = 1.0

    def named(self, name: str) -> CountedNoise:
        """The stream with this name, independent of all others."""
        return replace(self, words=(name, *self.words))

    def normal(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Normal values, (image, *values)."""
        first, end = self.start // BLOCK, self.start + shape[0]
        blocks = []
        for number in range(first, -(-end // BLOCK)):
            images = min(BLOCK, self.global_size - number * BLOCK)
            generator = torch_generator(self.seed, *self.words, *([number] if number else []))
            blocks.append(torch.randn((images, *shape[1:]), generator=generator, dtype=dtype))
        values = blocks[0] if len(blocks) == 1 else torch.cat(blocks)
        return values[self.start - first * BLOCK : end - first * BLOCK] * self.scale

    def generators(self, count: int, device: torch.device) -> Iterator[torch.Generator]:
        """A generator on `device` for each of `count` images; each is valid until the next one is taken."""
        generator = torch.Generator(device)
        for key in stream_keys(self.seed, *self.words, numbers=range(self.start, self.start + count)):
            yield generator.manual_seed(key)


class GivenNoise:
    """Standard normal values that a caller gives, handed out in the order in which they are drawn.

    Args:
        values: (batch, value), as many as are drawn; without them, zeros are handed out and `used` counts them.

    Attributes:
        used: number of values per image that were drawn.
    """

    def __init__(self, values: Tensor | None) -> None:
        self._values = values
        self.used = 0

    def normal_like(self, tensor: Tensor) -> Tensor:
        """The next values, in the shape of a tensor (batch, *values)."""
        shape = tuple(tensor.shape[1:])
        begin, self.used = self.used, self.used + math.prod(shape)
        if self._values is None:
            return torch.zeros_like(tensor)
        part: Tensor = self._values[:, begin : self.used].unflatten(1, shape)
        return part.to(tensor)


Generators = torch.Generator | Sequence[torch.Generator] | CountedNoise | GivenNoise
"""One generator for a batch, one per image (noise that is independent of the rest of the batch), counter-based noise,
or the values themselves."""


def normal_like(tensor: Tensor, generator: Generators | None) -> Tensor:
    """Standard normal values of the tensor's shape, on its device.

    They are drawn on the device of the generator, so that a seed gives the same values on every device of the model.

    Raises:
        ShapeError: the number of generators differs from the number of images.
    """
    if isinstance(generator, Sequence):
        if len(generator) != len(tensor):
            raise ShapeError(
                f"expected one generator for each of {count_text(len(tensor), 'latent')}, got {len(generator)}"
            )
        return torch.stack([normal_like(row, own) for row, own in zip(tensor, generator, strict=True)])
    if isinstance(generator, GivenNoise):
        return generator.normal_like(tensor)
    if isinstance(generator, CountedNoise):
        return copy_to_device(generator.normal(tuple(tensor.shape), tensor.dtype), tensor.device)
    device = tensor.device if generator is None else generator.device
    drawn = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype, device=device)
    return copy_to_device(drawn, tensor.device)


def named_noise(noise: Generators | None, name: str) -> Generators | None:
    """A stream of its own where noise is counter-based; other noise as it is."""
    return noise.named(name) if isinstance(noise, CountedNoise) else noise


def repeat_noise(noise: Generators | None, count: int) -> Generators | None:
    """The noise of a batch in which each image stands `count` times in a row; each of them has its own values."""
    if isinstance(noise, CountedNoise):
        return replace(noise, start=noise.start * count, global_size=noise.global_size * count)
    return [each for each in noise for _ in range(count)] if isinstance(noise, Sequence) else noise


def drop_values(values: Tensor, rate: float, noise: Generators | None) -> Tensor:
    """Dropout: zeroes values with the probability `rate`, and scales the others by 1 / (1 − rate).

    Args:
        values: (batch, *values).
        rate: in [0, 1).
        noise: counter-based noise, for zeros that depend on the position of the image in the global batch; otherwise
            torch's default generator is used.
    """
    if not isinstance(noise, CountedNoise):
        return values * F.dropout(torch.ones_like(values), rate)
    factors = torch.empty_like(values)
    for row, generator in zip(factors, noise.generators(len(values), values.device), strict=True):
        row.bernoulli_(1 - rate, generator=generator)
    factors /= 1 - rate
    return values * factors


def draw_integers(below: int, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    """Uniform integers in [0, below), on the device of the generator."""
    device = "cpu" if generator is None else generator.device
    return torch.randint(below, shape, generator=generator, device=device)


def single_generator(generator: Generators | None, name: str) -> torch.Generator | None:
    """One generator for values that are drawn once per batch; `name` is the stream of counter-based noise."""
    if isinstance(generator, CountedNoise):
        return torch_generator(generator.seed, *generator.words, name)
    if isinstance(generator, GivenNoise):
        raise ConfigError(f"the values of '{name}' are drawn for a whole batch and cannot be given as noise")
    return generator[0] if isinstance(generator, Sequence) else generator
