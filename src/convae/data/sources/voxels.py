"""Voxels: solid bodies in three dimensions, turned, stretched and moved; as many as wanted, no files."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from convae.core.arguments import NonNegative, Positive
from convae.core.progress import Progress
from convae.core.random import numpy_generator
from convae.data.places import Places
from convae.data.sources.base import Column, Listing, Record, Source, Survey

BODIES = ("box", "ellipsoid", "cylinder", "torus")
_FINE = 2
"""Points along each axis of a voxel whose mean is its value."""


class Voxels(Source):
    """Boxes, ellipsoids, cylinders and tori, white on black, in any turn, with soft edges.

    What a body is depends on the seed and its number alone, so that a larger set begins with the smaller. The label is
    its kind.

    Args:
        places: not used.
        count: number of volumes.
        size: voxels along each of the three axes.
        seed: of everything drawn.
    """

    def __init__(
        self,
        places: Places,
        *,
        count: Positive = 2_000,
        size: Annotated[int, Field(ge=8, le=256)] = 24,
        seed: NonNegative = 0,
    ) -> None:
        super().__init__(places)
        self._count, self._size, self._seed = count, size, seed

    def fingerprint(self) -> str:
        """The arguments, and a version of the drawing."""
        return f"voxels 1 {self._count} {self._size} {self._seed}"

    def survey(self, progress: Progress | None = None, *, sizes: bool = True) -> Survey:
        """The size asked for, one channel."""
        return Survey((self._size,) * 3, 1)

    def listing(self) -> Listing:
        """The kinds, in turn."""
        names = [f"{index:0{len(str(self._count - 1))}d}" for index in range(self._count)]
        return Listing(names, {"body": Column(np.arange(self._count) % len(BODIES), BODIES)}, "body")

    def record(self, index: int, near: tuple[int, ...]) -> Record:
        """One volume, drawn."""
        random = numpy_generator(self._seed, "voxels", index)
        return Record(draw(BODIES[index % len(BODIES)], self._size, random), (self._size,) * 3)


def draw(body: str, size: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """(size, size, size, 1) a body of a kind, in a random turn, of random proportions, near the middle."""
    axis = 2 * (np.arange(size * _FINE) + 0.5) / (size * _FINE) - 1
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1) - random.uniform(-0.2, 0.2, 3)
    # The orthogonal factor of a normal matrix is an even choice among all turns (and reflections).
    turn, _ = np.linalg.qr(random.standard_normal((3, 3)))
    x, y, z = np.moveaxis(points @ turn / random.uniform(0.4, 0.65, 3), -1, 0)
    if body == "box":
        inside = np.maximum(np.maximum(np.abs(x), np.abs(y)), np.abs(z)) <= 0.8
    elif body == "ellipsoid":
        inside = x * x + y * y + z * z <= 1
    elif body == "cylinder":
        inside = (x * x + y * y <= 0.6) & (np.abs(z) <= 1)
    else:
        inside = (np.sqrt(x * x + y * y) - 0.75) ** 2 + z * z <= 0.1
    cover = inside.reshape(size, _FINE, size, _FINE, size, _FINE).mean((1, 3, 5))
    voxels: NDArray[np.uint8] = np.rint(255 * cover).astype(np.uint8)[..., None]
    return voxels
