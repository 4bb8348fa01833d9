"""Where the noise of a forward pass comes from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from convae.core.errors import ShapeError
from convae.core.random import stream_key, torch_generator

BLOCK = 256
"""Images whose noise `CountedNoise` draws together: few, so that a rank that needs some of them can draw them all."""


@dataclass(frozen=True)
class CountedNoise:
    """Counter-based noise for images of a global batch: the same for any number of ranks and accumulation steps.

    Attributes:
        seed: of the stream.
        words: names of the stream, such as the step.
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
        """The stream of that name, independent of those of other names."""
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
        for image in range(self.start, self.start + count):
            yield generator.manual_seed(stream_key(self.seed, *self.words, image))


Generators = torch.Generator | Sequence[torch.Generator] | CountedNoise
"""One generator for a batch; or one for each image, whose noise then does not depend on the rest of the batch; or
counter-based noise."""


def normal_like(tensor: Tensor, generator: Generators | None) -> Tensor:
    """Standard normal values of the tensor's shape, on its device.

    They are drawn on the generator's own device, so that a seed gives the same values whatever runs the model.

    Raises:
        ShapeError: there is not one generator for each image.
    """
    if isinstance(generator, Sequence):
        if len(generator) != len(tensor):
            raise ShapeError(f"expected one generator for each of {len(tensor)} latents, got {len(generator)}")
        return torch.stack([normal_like(row, own) for row, own in zip(tensor, generator, strict=True)])
    if isinstance(generator, CountedNoise):
        return generator.normal(tuple(tensor.shape), tensor.dtype).to(tensor.device)
    device = tensor.device if generator is None else generator.device
    return torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype, device=device).to(tensor.device)


def draw_integers(below: int, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    """Uniform whole numbers in [0, below), on the generator's own device."""
    device = "cpu" if generator is None else generator.device
    return torch.randint(below, shape, generator=generator, device=device)


def single_generator(generator: Generators | None, name: str) -> torch.Generator | None:
    """One generator for what is drawn once for a whole batch; `name` is its stream where noise is counter-based."""
    if isinstance(generator, CountedNoise):
        return torch_generator(generator.seed, *generator.words, name)
    return generator[0] if isinstance(generator, Sequence) else generator
