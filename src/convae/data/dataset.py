"""A data set from a list of paths, for use in your own training loop."""

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
from convae.data.images.pixels import Interpolation, ResizeMode
from convae.data.splits.data_set import open_split


class Dataset:
    """Batches of images from files; each pass covers all readable ones.

    Attributes:
        split: the images, including the list of skipped ones.
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
        """Iterates over one epoch; with a seed, each epoch has its own order."""
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
    interpolation: Interpolation = "bicubic",
    shuffle_seed: int | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Image files as batches of tensors in [0, 1]; unreadable files are skipped and listed.

    Args:
        paths: paths of the files.
        batch_size: images in a batch; the last one may be smaller.
        size: spatial sizes, height first; one number for a square.
        channels: 1 gray, 3 RGB, 4 RGBA; None for gray if all are gray, otherwise RGB.
        resize_mode: `crop` takes the center, `pad` adds black bars, `squash` distorts the image.
        interpolation: `bicubic` or `bilinear`, antialiased.
        shuffle_seed: seed of the order; None for the order of the paths.
        progress: called during the first decoding.

    Raises:
        ConfigError: no paths, or an invalid size, number of channels, resize mode or interpolation.
        DataError: no file is readable.
    """
    source = {"files": {"paths": [str(path) for path in paths]}}
    resizing = {"resize_mode": resize_mode, "interpolation": interpolation}
    config = parse(DataConfig, {"source": source, "size": size, "channels": channels, **resizing}, "dataset")
    return Dataset(config, batch_size, shuffle_seed, progress)
