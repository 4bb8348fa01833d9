"""Synthetic sprites: simple shapes with known factors of variation, for work on disentanglement."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from convae.core.arguments import NonNegative, Positive
from convae.core.errors import ConfigError
from convae.core.names import unknown_message
from convae.core.progress import Progress
from convae.core.random import numpy_generator
from convae.data.data_dirs import DataDirs
from convae.data.sources.base import Column, Listing, Record, Source, Survey

COLORS = {
    "white": (255, 255, 255),
    "red": (230, 60, 50),
    "orange": (240, 150, 40),
    "yellow": (240, 225, 60),
    "green": (60, 190, 80),
    "cyan": (60, 200, 220),
    "blue": (60, 100, 240),
    "magenta": (215, 70, 205),
}
_SCALES = tuple(0.5 + 0.1 * step for step in range(6))
_ANGLES = tuple(9 * step for step in range(40))
_POSITIONS = tuple(round(0.25 + 0.5 * step / 31, 4) for step in range(32))
FACTORS = {
    "shape": ("square", "ellipse", "heart"),
    "scale": tuple(f"{scale:.1f}" for scale in _SCALES),
    "rotation": tuple(str(angle) for angle in _ANGLES),
    "x": tuple(f"{position:g}" for position in _POSITIONS),
    "y": tuple(f"{position:g}" for position in _POSITIONS),
    "color": tuple(COLORS),
}
"""The values of each factor, as strings: rotation in degrees, position and scale as fractions of the image."""
_RADIUS = 0.165
"""Half the side of a square of scale 1, as a fraction of the image."""
_FINE = 4
"""Antialiasing samples along each axis of a pixel."""


class Sprites(Source):
    """Squares, ellipses and hearts: 6 sizes, 40 rotations, 32×32 positions, 8 colors; after dSprites (Matthey 2017).

    A square repeats after each quarter turn, an ellipse after each half turn.

    The factors of an image depend only on the seed and its index, so that a larger set begins with the smaller one. The
    label is the shape; every factor is a column.

    Args:
        data_dirs: not used.
        count: number of images.
        size: pixels along each axis.
        seed: random seed.
        fixed: value of each factor that is the same in all images, such as `{color: white}`, which leaves the factors
            of dSprites; fixed factors have no column.

    Raises:
        ConfigError: `fixed` has a factor or a value that there is not.
    """

    def __init__(
        self,
        data_dirs: DataDirs,
        *,
        count: Positive = 10_000,
        size: Annotated[int, Field(ge=8, le=1024)] = 64,
        seed: NonNegative = 0,
        fixed: Mapping[str, str | int | float] | None = None,
    ) -> None:
        super().__init__(data_dirs)
        self._count, self._size, self._seed = count, size, seed
        self._fixed = {name: _value_index(name, str(value)) for name, value in (fixed or {}).items()}
        self._choices = lru_cache(maxsize=1)(self._factors)

    def fingerprint(self) -> str:
        """The arguments, and a version of the generator."""
        fixed = "".join(f" {name}={self._fixed[name]}" for name in FACTORS if name in self._fixed)
        return f"sprites 1 {self._count} {self._size} {self._seed}{fixed}"

    def survey(self, progress: Progress | None = None, *, sizes: bool = True) -> Survey:
        """The configured size, RGB."""
        return Survey((self._size, self._size), 3)

    def listing(self) -> Listing:
        """The factors of each image."""
        names = [f"{index:0{len(str(self._count - 1))}d}" for index in range(self._count)]
        varied = {name: values for name, values in self._choices().items() if name not in self._fixed}
        columns = {name: Column(values, FACTORS[name]) for name, values in varied.items()}
        return Listing(names, columns, "shape" if "shape" in columns else None)

    def record(self, index: int, near: tuple[int, ...]) -> Record:
        """Generates one image."""
        return Record(
            draw({name: int(values[index]) for name, values in self._choices().items()}, self._size),
            (self._size, self._size),
        )

    def _factors(self) -> dict[str, NDArray[np.int64]]:
        """(images,) indices into the values of each factor in `FACTORS`."""
        return {
            name: np.full(self._count, self._fixed[name])
            if name in self._fixed
            else numpy_generator(self._seed, "sprites", name).integers(0, len(values), self._count)
            for name, values in FACTORS.items()
        }


def _value_index(name: str, value: str) -> int:
    """The index of a value of a factor."""
    if name not in FACTORS:
        raise ConfigError(unknown_message("factor", name, FACTORS))
    if value not in FACTORS[name]:
        raise ConfigError(unknown_message(f"value of {name}", value, FACTORS[name]))
    return FACTORS[name].index(value)


def draw(factors: dict[str, int], size: int) -> NDArray[np.uint8]:
    """A sprite on black, (size, size, 3), with soft edges.

    Args:
        factors: index into the values of each factor in `FACTORS`.
        size: pixels along each axis.
    """
    points = (np.arange(size * _FINE) + 0.5) / (size * _FINE)
    radius = _RADIUS * _SCALES[factors["scale"]]
    across = (points[None, :] - _POSITIONS[factors["x"]]) / radius
    down = (points[:, None] - _POSITIONS[factors["y"]]) / radius
    angle = math.radians(_ANGLES[factors["rotation"]])
    u = across * math.cos(angle) + down * math.sin(angle)
    v = down * math.cos(angle) - across * math.sin(angle)
    inside = _inside(FACTORS["shape"][factors["shape"]], u, v)
    cover = inside.reshape(size, _FINE, size, _FINE).mean((1, 3))
    color = np.array(COLORS[FACTORS["color"][factors["color"]]])
    pixels: NDArray[np.uint8] = np.rint(cover[..., None] * color).astype(np.uint8)
    return pixels


def _inside(shape: str, u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether points are inside a shape of radius 1 around the origin; v points down."""
    if shape == "square":
        square: NDArray[np.bool_] = np.maximum(np.abs(u), np.abs(v)) <= 1
        return square
    if shape == "ellipse":
        return (u / 1.2) ** 2 + (v / 0.7) ** 2 <= 1
    # The curve (x² + y² − 1)³ = x² y³, whose tip points down here.
    x, y = 1.1 * u, -1.1 * v + 0.15
    heart: NDArray[np.bool_] = (x * x + y * y - 1) ** 3 <= x * x * y**3
    return heart
