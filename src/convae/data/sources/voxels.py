"""Synthetic volumes: solid bodies with random rotation, proportions and position."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from convae.core.arguments import NonNegative, Positive
from convae.core.progress import Progress
from convae.core.random import numpy_generator
from convae.data.data_dirs import DataDirs
from convae.data.sources.base import Column, Listing, Record, Source, Survey

Values = NDArray[np.float64]
BODIES = ("box", "ellipsoid", "cylinder", "torus")


class Voxels(Source):
    """Boxes, ellipsoids, cylinders and tori, white on black, rotated around the first axis, with soft edges.

    A body depends only on the seed and its index, so that a larger set begins with the smaller one. The label is the
    kind.

    Args:
        data_dirs: not used.
        count: number of volumes.
        size: voxels along each of the three axes.
        seed: random seed.
    """

    def __init__(
        self,
        data_dirs: DataDirs,
        *,
        count: Positive = 4_000,
        size: Annotated[int, Field(ge=8, le=256)] = 24,
        seed: NonNegative = 0,
    ) -> None:
        super().__init__(data_dirs)
        self._count, self._size, self._seed = count, size, seed

    def fingerprint(self) -> str:
        """The arguments, and a version of the generator."""
        return f"voxels 4 {self._count} {self._size} {self._seed}"

    def survey(self, progress: Progress | None = None, *, sizes: bool = True) -> Survey:
        """The configured size, one channel."""
        return Survey((self._size,) * 3, 1)

    def listing(self) -> Listing:
        """The kinds, in turn."""
        names = [f"{index:0{len(str(self._count - 1))}d}" for index in range(self._count)]
        return Listing(names, {"body": Column(np.arange(self._count) % len(BODIES), BODIES)}, "body")

    def record(self, index: int, near: tuple[int, ...]) -> Record:
        """Generates one volume."""
        random = numpy_generator(self._seed, "voxels", index)
        return Record(draw(BODIES[index % len(BODIES)], self._size, random), (self._size,) * 3)


def draw(body: str, size: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """(size, size, size, 1) a body of this kind near the center, rotated by up to 1/16 turn, of random proportions."""
    axis = 2 * (np.arange(size) + 0.5) / size - 1
    depth, height, width = np.meshgrid(*(axis - move for move in random.uniform(-0.1, 0.1, 3)), indexing="ij")
    # Not more: a quarter turn exchanges two sides, so rotations of ±1/8 turn would form a ring with a hole in it.
    angle = random.uniform(-np.pi / 8, np.pi / 8)
    across, along = (
        np.cos(angle) * height - np.sin(angle) * width,
        np.sin(angle) * height + np.cos(angle) * width,
    )
    scale = random.uniform(0.45, 0.7, 3)
    x, y, z = across / scale[0], along / scale[1], depth / scale[2]
    if body == "box":
        outside = _largest(*((np.abs(at) - 0.85) * by for at, by in zip((x, y, z), scale, strict=True)))
    elif body == "ellipsoid":
        outside = _distance(np.sqrt(x * x + y * y + z * z) - 1, (x, y, z), scale)
    elif body == "cylinder":
        outside = _largest(_distance(np.hypot(x, y) - 0.8, (x, y), scale), (np.abs(z) - 1) * scale[2])
    else:
        ring = np.hypot(x, y)
        away = ring - 0.75
        outside = _distance(np.hypot(away, z) - 0.32, (away * x / ring, away * y / ring, z), scale)
    # The coverage of a voxel is the depth of its center below the surface, in voxels.
    cover = np.clip(0.5 - outside * size / 2, 0, 1)
    voxels: NDArray[np.uint8] = np.rint(255 * cover).astype(np.uint8)[..., None]
    return voxels


def _distance(level: Values, towards: tuple[Values, ...], scale: Values) -> Values:
    """Distance from the surface `level` = 0, to first order: `level` divided by its gradient, in scaled axes."""
    steps = zip(towards, scale, strict=False)
    length = np.sqrt(sum((at * at for at in towards), np.zeros(())))
    slope = np.sqrt(sum(((at / by) ** 2 for at, by in steps), np.zeros(()))) / np.maximum(length, 1e-9)
    found: Values = level / np.maximum(slope, 1e-9)
    return found


def _largest(*values: Values) -> Values:
    largest: Values = np.maximum.reduce(values)
    return largest
