"""How far overlapping tiles are from the exact result."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from convae.model.vae import VAE


@dataclass(frozen=True)
class TileDifference:
    """Difference of a result in tiles from the exact one.

    Attributes:
        largest: largest absolute difference of a value.
        mean: mean absolute difference.
        rms: root mean square difference.
        std: standard deviation of the exact values.
    """

    largest: float
    mean: float
    rms: float
    std: float

    @property
    def psnr(self) -> float:
        """PSNR of images in [0, 1] to the exact ones, dB; infinite where they are equal."""
        return -20 * math.log10(self.rms) if self.rms > 0 else math.inf


def measure_tiles(
    model: VAE, compute: Callable[[], Tensor], *, size: int, overlap: int = 0, memory: int | None = None
) -> TileDifference:
    """Compares a result in tiles, which the model uses from now on, with the exact one in slices.

    Args:
        model: the model.
        compute: images or latents that the model computes.
        size: see `VAE.use_tiles`.
        overlap: likewise.
        memory: of the exact result, see `VAE.use_slices`.

    Raises:
        ConfigError: the tiles do not fit the model.
    """
    model.use_tiles(size, overlap)
    tiled = compute().double()
    model.use_slices("auto", memory=memory)
    exact = compute().double()
    model.use_tiles(size, overlap)
    difference = (tiled - exact).abs()
    return TileDifference(
        float(difference.max()),
        float(difference.mean()),
        float(difference.square().mean().sqrt()),
        float(exact.std(correction=0)),
    )
