"""A data set made of a list of paths: what a few lines of one's own need."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from convae.core.arguments import Positive
from convae.core.config import parse
from convae.core.progress import Progress
from convae.core.types import Batch
from convae.data.batches import Batches, in_order
from convae.data.config import DataConfig
from convae.data.pixels import ResizeMode
from convae.data.split import open_split


class Dataset:
    """Images from files in batches; each pass goes through all of them that could be read.

    Attributes:
        split: the images, which also knows the skipped ones.
    """

    def __init__(self, config: DataConfig, batch_size: int, seed: int | None, progress: Progress | None) -> None:
        self.split = open_split(config, "all", progress=progress)
        self._batch_size = batch_size
        self._shuffled = None if seed is None else Batches(self.split, batch_size, seed, drop_last=False)

    def __len__(self) -> int:
        """Batches in a pass."""
        return math.ceil(len(self.split) / self._batch_size)

    def __iter__(self) -> Iterator[Batch]:
        return self.epoch(0)

    def epoch(self, number: int, device: torch.device | str = "cpu") -> Iterator[Batch]:
        """One pass; with a seed, each number has an order of its own."""
        if self._shuffled is None:
            return in_order(self.split, self._batch_size, device)
        return self._shuffled.iterate(number, device=device)


def dataset(
    paths: Sequence[str | Path],
    batch_size: Positive,
    size: Positive | tuple[int, ...],
    *,
    channels: int | None = 3,
    resize_mode: ResizeMode = "crop",
    shuffle_seed: int | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Image files as batches of tensors in [0, 1]; files that cannot be read are left out and listed.

    Args:
        paths: of the files.
        batch_size: images in a batch; the last one of a pass holds what is left.
        size: spatial sizes, height first; a number for a square.
        channels: 1 gray, 3 RGB, 4 RGBA; None for gray where all are gray, RGB otherwise.
        resize_mode: `crop` fills the size with the image's center, `pad` adds black bars, `squash` distorts the image.
        shuffle_seed: of the order; without one, the paths' own.
        progress: told how far decoding is, the first time.

    Raises:
        ConfigError: no paths, or a size, number of channels or resize mode that cannot be.
        DataError: none of the files can be read.
    """
    source = {"files": {"paths": [str(path) for path in paths]}}
    config = parse(
        DataConfig, {"source": source, "size": size, "channels": channels, "resize_mode": resize_mode}, "dataset"
    )
    return Dataset(config, batch_size, shuffle_seed, progress)
