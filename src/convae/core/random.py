"""Counter-based random numbers: what is drawn depends on what it is for, never on what was drawn before.

`torch_generator(seed, "latent", step)` gives the same stream in an unbroken run, in a resumed one, and on every
rank. No generator's state has to be saved, because each is made anew from the counters.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor

BLOCK = 256
"""Images whose values `Counted` draws together: few enough that a process that needs some of them can draw them all."""


def key(seed: int, *words: int | str) -> int:
    """A 63-bit key for the stream named by `words`: distinct streams are independent, equal ones are equal."""
    text = "\x1f".join([str(int(seed)), *(str(word) for word in words)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def numpy_generator(seed: int, *words: int | str) -> np.random.Generator:
    """A NumPy generator (Philox, counter-based) for the stream named by `words`."""
    return np.random.Generator(np.random.Philox(key=key(seed, *words)))


def torch_generator(seed: int, *words: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator on `device` for the stream named by `words`."""
    import torch

    return torch.Generator(device).manual_seed(key(seed, *words))


@dataclass(frozen=True)
class Counted:
    """Random numbers for some images of a batch: the same however the batch is cut among parts and processes.

    Attributes:
        seed: of the stream.
        words: which name the stream.
        start: place of the first image in the whole batch.
        whole: images in the whole batch.
        scale: standard deviation of what is normal.
    """

    seed: int
    words: tuple[int | str, ...]
    start: int
    whole: int
    scale: float = 1.0

    def normal(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """(image, *values), normal: what a batch of up to `BLOCK` images would be given is its first block."""
        import torch

        first, end = self.start // BLOCK, self.start + shape[0]
        blocks = []
        for number in range(first, -(-end // BLOCK)):
            images = min(BLOCK, self.whole - number * BLOCK)
            generator = torch_generator(self.seed, *self.words, *([number] if number else []))
            blocks.append(torch.randn((images, *shape[1:]), generator=generator, dtype=dtype))
        values = blocks[0] if len(blocks) == 1 else torch.cat(blocks)
        return values[self.start - first * BLOCK : end - first * BLOCK] * self.scale

    def each(self, count: int, device: torch.device) -> Iterator[torch.Generator]:
        """A generator on `device` for each of `count` images; it is good until the next one is taken."""
        import torch

        generator = torch.Generator(device)
        for image in range(self.start, self.start + count):
            yield generator.manual_seed(key(self.seed, *self.words, image))
