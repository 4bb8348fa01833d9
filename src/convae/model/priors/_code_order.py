"""The order in which a prior over codes predicts them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from convae.core.context import LatentModule
from convae.core.types import Shape


@dataclass(frozen=True)
class CodeLatent:
    """One latent of a sequence of codes.

    Attributes:
        grid: sizes of its map; empty of a vector.
        sizes: number of codes of each level of its quantizer.
        begin: place of its first code.
        first_level: number of levels of the latents before it.
    """

    grid: Shape
    sizes: tuple[int, ...]
    begin: int
    first_level: int

    @property
    def end(self) -> int:
        """The place after its last code."""
        return self.begin + math.prod(self.grid) * len(self.sizes)


@dataclass(frozen=True)
class CodeTables:
    """What a model of the sequence looks up.

    Attributes:
        levels: (place,), the level at each place, counted over all latents.
        first: (place,), number of codes of all levels before it: the first row of the level in a common table.
        above: of each latent (position, code), the places of the codes of the latents above it.
    """

    levels: Tensor
    first: Tensor
    above: Sequence[Tensor]


class CodeOrder:
    """The codes of an image as a sequence: latents from the top, positions in raster order, at each all levels.

    Args:
        modules: the modules with codes, from the top.

    Attributes:
        latents: the latents, in order.
        sizes: number of codes of each level of all latents.
        length: number of codes of an image.
    """

    def __init__(self, modules: Sequence[LatentModule]) -> None:
        self.latents: list[CodeLatent] = []
        place = level = 0
        for each in modules:
            self.latents.append(CodeLatent(each.latent_shape[1:], each.codebook_sizes, place, level))
            place, level = self.latents[-1].end, level + len(each.codebook_sizes)
        self.sizes = tuple(size for latent in self.latents for size in latent.sizes)
        self.length = place
        self._tables: dict[torch.device, CodeTables] = {}

    def tables(self, device: torch.device) -> CodeTables:
        """Tables of the places on a device, which are made once."""
        if device not in self._tables:
            levels = torch.tensor([self.level_at(place) for place in range(self.length)], device=device)
            first = torch.tensor([sum(self.sizes[:level]) for level in range(len(self.sizes))], device=device)
            above = [self.places_above(each).to(device) for each in self.latents]
            self._tables[device] = CodeTables(levels, first[levels], above)
        return self._tables[device]

    def levels(self, latent: CodeLatent) -> list[tuple[int, slice]]:
        """Each level of a latent, counted over all latents, with the places of its codes."""
        count = len(latent.sizes)
        return [(latent.first_level + each, slice(latent.begin + each, latent.end, count)) for each in range(count)]

    def level_at(self, place: int) -> int:
        """The level at a place, counted over all latents."""
        latent = next(each for each in self.latents if place < each.end)
        return latent.first_level + (place - latent.begin) % len(latent.sizes)

    def places_above(self, latent: CodeLatent) -> Tensor:
        """(position, code) the places of the codes of all latents above at each position of a latent.

        A position of a map takes the place of the position of the map above that covers it.
        """
        positions = torch.arange(math.prod(latent.grid), device="cpu")
        found: list[Tensor] = []
        for above in self.latents[: self.latents.index(latent)]:
            covering, rest = torch.zeros_like(positions), positions
            stride = 1
            for axis in reversed(range(len(latent.grid))):
                at = rest % latent.grid[axis]
                rest = rest // latent.grid[axis]
                if above.grid:
                    covering = covering + stride * (at * above.grid[axis] // latent.grid[axis])
                    stride *= above.grid[axis]
            first = above.begin + covering * len(above.sizes)
            found += [first + level for level in range(len(above.sizes))]
        return torch.stack(found, 1) if found else positions.new_empty(len(positions), 0)

    def sequence(self, codes: Tensor) -> Tensor:
        """Code indices in this order, (batch, place).

        Args:
            codes: (batch, code), latent by latent and each level by level, of all latents or the first of them; of one
                latent also (batch, *code shape).
        """
        flat, parts = codes.reshape(len(codes), -1), []
        for each in self.latents:
            if each.begin == flat.shape[1]:
                break
            own = flat[:, each.begin : each.end].reshape(len(flat), len(each.sizes), -1)
            parts.append(own.transpose(1, 2).flatten(1))
        return torch.cat(parts, 1)

    def indices(self, sequence: Tensor) -> Tensor:
        """Sequences, (batch, place), as code indices, (batch, code): latent by latent, each level by level."""
        parts = []
        for each in self.latents:
            own = sequence[:, each.begin : each.end].reshape(len(sequence), -1, len(each.sizes))
            parts.append(own.transpose(1, 2).flatten(1))
        return torch.cat(parts, 1)
