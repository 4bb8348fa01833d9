"""Synthetic signals: quasi-periodic, noisy one-dimensional waves of four kinds."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from convae.core.arguments import Fraction, NonNegative, Positive
from convae.core.progress import Progress
from convae.core.random import numpy_generator
from convae.data.data_dirs import DataDirs
from convae.data.sources.base import Column, Listing, Record, Source, Survey

KINDS = ("heartbeat", "chirp", "beats", "sawtooth")


class Signals(Source):
    """Heartbeats, chirps, beats of two tones, and sawtooth waves of random rate, amplitude and phase, with noise.

    A signal depends only on the seed and its index, so that a larger set begins with the smaller one. The label is the
    kind.

    Args:
        data_dirs: not used.
        count: number of signals.
        length: samples per signal.
        noise: standard deviation of the noise, as a fraction of the range.
        seed: random seed.
    """

    def __init__(
        self,
        data_dirs: DataDirs,
        *,
        count: Positive = 16_000,
        length: Annotated[int, Field(ge=16, le=65536)] = 128,
        noise: Fraction = 0.02,
        seed: NonNegative = 0,
    ) -> None:
        super().__init__(data_dirs)
        self._count, self._length, self._noise, self._seed = count, length, noise, seed

    def fingerprint(self) -> str:
        """The arguments, and a version of the generator."""
        return f"signals 3 {self._count} {self._length} {self._noise} {self._seed}"

    def survey(self, progress: Progress | None = None, *, sizes: bool = True) -> Survey:
        """The configured length, one channel."""
        return Survey((self._length,), 1)

    def listing(self) -> Listing:
        """The kinds, in turn."""
        names = [f"{index:0{len(str(self._count - 1))}d}" for index in range(self._count)]
        return Listing(names, {"kind": Column(np.arange(self._count) % len(KINDS), KINDS)}, "kind")

    def record(self, index: int, near: tuple[int, ...]) -> Record:
        """Generates one signal."""
        random = numpy_generator(self._seed, "signals", index)
        wave = draw(KINDS[index % len(KINDS)], self._length, random)
        noisy = np.clip(wave + self._noise * random.standard_normal(self._length), 0, 1)
        return Record(np.rint(255 * noisy).astype(np.uint8)[:, None], (self._length,))


def draw(kind: str, length: int, random: np.random.Generator) -> NDArray[np.float64]:
    """(length,) a wave of this kind in [0, 1], without noise."""
    time = np.linspace(0, 1, length, endpoint=False)
    turns, height = random.uniform(2, 4), random.uniform(0.25, 0.45)
    # Half a turn: phases over a full turn form a ring, which leaves a hole in the latent space.
    phase = random.uniform(0, 0.5)
    angle = turns * time + phase
    wave: NDArray[np.float64]
    if kind == "heartbeat":
        # A small wave, a sharp beat with its undershoot, and a broad wave: bumps (center, width, height). At the
        # highest rate and 128 samples the width of the beat is about one sample; a narrower one would be missed.
        bumps = ((0.2, 0.05, 0.3), (0.4, 0.03, 1.5), (0.49, 0.03, -0.45), (0.72, 0.07, 0.5))
        # The rate varies slightly, like that of a heart.
        within = (angle + random.uniform(-0.08, 0.08) * np.sin(2 * np.pi * time)) % 1
        beat = sum((top * np.exp(-(((within - at) / width) ** 2) / 2) for at, width, top in bumps), np.zeros(length))
        wave = beat - 0.5
    elif kind == "chirp":
        wave = np.sin(2 * np.pi * (phase + turns * time * (0.4 + random.uniform(0.6, 1.2) * time)))
    elif kind == "beats":
        wave = np.sin(2 * np.pi * 2 * angle) * np.cos(2 * np.pi * (time + random.uniform(0, 0.5)))
    else:
        wave = 2 * (angle % 1) - 1
    return np.clip(0.5 + height * wave, 0, 1)
