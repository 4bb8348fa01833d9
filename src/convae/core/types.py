"""Types that all packages share: shapes, batches of images, and the layout of latents.

Dimension names: `batch channel *sizes` for images (float in [0, 1]), `batch *latent` for latents
(a vector is `latent`, a map `latent *grid`), `batch` for values per image. The annotations are checked by beartype
under pytest and cost nothing otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, SupportsIndex

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from convae.core.layout import repeat_rows
from convae.core.noise import Generators

Shape = tuple[int, ...]
"""(channels, *sizes), without the batch."""

Images = Float[Tensor, "batch channel *sizes"]
Latents = Float[Tensor, "batch *latent"]
PerImage = Float[Tensor, " batch"]
Logits = Float[Tensor, "batch class"]

if TYPE_CHECKING:
    AnyImages = Tensor
    AnyLatents = Tensor
    AnyCodes = Tensor
    AnyLabels = Tensor
    AnyCount = SupportsIndex
    AnyGenerators = Generators
else:
    # Arguments that users pass to a model, which checks them itself, with better messages.
    AnyImages = AnyLatents = AnyCodes = AnyLabels = AnyCount = AnyGenerators = Any

MISSING_LABEL = -1
"""The label of an image without one."""


@dataclass(frozen=True)
class Batch:
    """Images of one training or evaluation step, on a device; possibly a slice of a larger, global batch.

    Attributes:
        images: (batch, channel, *sizes) in [0, 1], in torch's channels_last layout.
        labels: (batch,) class numbers, -1 if missing; None without labels.
        indices: (batch,) positions in the data.
        start: position of the first image in the global batch.
        global_size: number of images in the global batch; None if this is the global batch.
        labeled_fraction: fraction of the images of the global batch with a label; None if only the labels of this slice
            are known.
        data_size: number of images in the data; None if unknown.
        weights: (batch, channel or 1, *sizes), weight of each value in the likelihood, from 0 to 1: 0 where it is
            missing and `images` holds the fill value; None if all values are observed.
    """

    images: Images
    labels: Int64[Tensor, " batch"] | None
    indices: Int64[Tensor, " batch"]
    start: int = 0
    global_size: int | None = None
    labeled_fraction: float | None = None
    data_size: int | None = None
    weights: Float[Tensor, "batch depth *sizes"] | None = None

    @classmethod
    def of(cls, images: Images, labels: Int64[Tensor, " batch"] | None = None) -> Batch:
        """A batch of images, with indices from 0."""
        return cls(images, labels, torch.arange(len(images), device=images.device))

    def __len__(self) -> int:
        return len(self.indices)

    def split(self, count: int) -> Iterator[Batch]:
        """Slices of about equal length for gradient accumulation: `count`, or one per image if there are fewer."""
        if count == 1:
            yield self
            return
        for begin, end in pairwise(slice_bounds(len(self), min(count, len(self)))):
            yield Batch(
                images=self.images[begin:end],
                labels=None if self.labels is None else self.labels[begin:end],
                indices=self.indices[begin:end],
                start=self.start + begin,
                global_size=len(self) if self.global_size is None else self.global_size,
                labeled_fraction=self.labeled_fraction,
                data_size=self.data_size,
                weights=None if self.weights is None else self.weights[begin:end],
            )

    def repeated(self, count: int) -> Batch:
        """The batch with each image repeated `count` times in a row."""
        if count == 1:
            return self
        return Batch(
            images=repeat_rows(self.images, count),
            labels=None if self.labels is None else self.labels.repeat_interleave(count, 0),
            indices=self.indices.repeat_interleave(count, 0),
            start=self.start * count,
            global_size=None if self.global_size is None else self.global_size * count,
            labeled_fraction=self.labeled_fraction,
            data_size=self.data_size,
            weights=None if self.weights is None else repeat_rows(self.weights, count),
        )


def slice_bounds(length: int, count: int) -> list[int]:
    """Bounds of `count` consecutive slices of about equal length: 0, then the end of each slice."""
    return [length * number // count for number in range(count + 1)]


@dataclass(frozen=True)
class LatentLayout:
    """Layout of the latents of a model in one tensor.

    One latent is (batch, *shape). Several latents, as of a hierarchy, are flattened and concatenated in the order of
    `entries`: (batch, size).

    Attributes:
        entries: name and shape of each latent, without the batch; at least one.
    """

    entries: tuple[tuple[str, Shape], ...]

    @property
    def shape(self) -> Shape:
        """The shape of the latent tensor, without the batch."""
        return self.entries[0][1] if len(self.entries) == 1 else (self.size,)

    @property
    def size(self) -> int:
        """Number of latent values."""
        return sum(math.prod(shape) for _, shape in self.entries)

    def level_of(self, value: int) -> int:
        """The level of the latent that a value of the flattened tensor belongs to, from 1 at the top."""
        ends = accumulate(math.prod(shape) for _, shape in self.entries)
        return next(level for level, end in enumerate(ends, 1) if value < end)

    def split(self, z: Tensor) -> dict[str, Tensor]:
        """Splits the latent tensor, (batch, *shape), into its latents by name."""
        if len(self.entries) == 1:
            return {self.entries[0][0]: z}
        parts = torch.split(z, [math.prod(shape) for _, shape in self.entries], dim=1)
        return {name: part.unflatten(1, shape) for (name, shape), part in zip(self.entries, parts, strict=True)}

    def join(self, latents: Mapping[str, Tensor]) -> Tensor:
        """Joins latents by name to the latent tensor, (batch, *shape)."""
        if len(self.entries) == 1:
            return latents[self.entries[0][0]]
        return torch.cat([latents[name].flatten(1) for name, _ in self.entries], dim=1)
