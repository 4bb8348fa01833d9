"""Encoding the images of a split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int64
from numpy.typing import NDArray
from torch import Tensor

from convae.core.errors import DataError
from convae.core.progress import Progress
from convae.core.types import Latents
from convae.data import Split
from convae.latents.batches import iterate_batches, require_split
from convae.model.inference import EncodedBatch, InferenceEngine, TorchEngine
from convae.model.inputs import unchecked_values
from convae.model.vae import VAE


@dataclass(frozen=True)
class Encoding:
    """The posteriors of images, on the CPU.

    Attributes:
        mean: (image, *latent).
        logvar: (image, *latent), natural logarithm of the variance.
        labels: (image,) class numbers, -1 if missing; None without labels.
        names: names of the images, such as their paths in a folder.
        codes: (image, *grid) code indices at each position, for models with a codebook, (image, level, *grid) with
            several, (image, code) of a hierarchy, one latent after the other; None where not all latents are codes.
        classes: class names; None without names.
        splits: split of each image; None if unknown.
        kl: (*latent,) mean KL divergence of each latent value over the images, nats, of a hierarchy, whose priors
            depend on the image; None from other models, where it follows from mean and log-variance.
    """

    mean: Latents
    logvar: Latents
    labels: Int64[Tensor, " image"] | None
    names: Sequence[str]
    codes: Int64[Tensor, image * grid] | None = None
    classes: Sequence[str] | None = None
    splits: Sequence[str] | None = None
    kl: Float64[Tensor, " *latent"] | None = None

    def __len__(self) -> int:
        return len(self.mean)


class EncodingTable:
    """The posteriors of a split, filled batch by batch.

    Memory is allocated once, since small results kept between batches would fragment the heap.

    Args:
        model: the model.
        split: the images.
        indices: positions in the split; by default all.
    """

    def __init__(self, model: VAE, split: Split, indices: NDArray[np.int64] | None = None) -> None:
        require_split(split)
        self._split = split
        self._indices = np.arange(len(split)) if indices is None else indices
        self.mean = torch.empty(len(self._indices), *model.latent_shape)
        self.logvar = torch.empty_like(self.mean)
        self._codes: list[Tensor] = []
        self._kl: Tensor | None = None

    def add(self, rows: slice, batch: EncodedBatch) -> None:
        """Adds the posteriors of a batch."""
        self.mean[rows], self.logvar[rows] = batch.mean, batch.logvar
        if batch.codes is not None:
            self._codes.append(batch.codes.cpu())
        if batch.kl is not None:
            total = batch.kl.sum(0, dtype=torch.float64).cpu()
            self._kl = total if self._kl is None else self._kl + total

    def require_finite(self, rows: slice, model: VAE) -> None:
        """Checks the posteriors of a batch.

        Raises:
            DataError: one is NaN or infinite.
        """
        values = self.mean[rows] + self.logvar[rows]
        wrong = (~values.flatten(1).isfinite().all(1)).nonzero()[:, 0]
        if len(wrong):
            raise DataError(
                f"image '{self._split.key(int(self._indices[rows][int(wrong[0])]))}': its latent is NaN or infinite, "
                f"as are those of {len(wrong)} of {len(values)} images of its batch: model '{model.name}' has "
                "diverged, or its weights are broken"
            )

    def encoding(self) -> Encoding:
        """The posteriors of all images."""
        split = self._split
        return Encoding(
            self.mean,
            self.logvar,
            None if split.labels is None else torch.from_numpy(split.labels[self._indices]),
            [split.key(int(index)) for index in self._indices],
            torch.cat(self._codes) if self._codes else None,
            split.classes,
            [split.part(int(index)) for index in self._indices],
            None if self._kl is None else self._kl / len(self._indices),
        )


@torch.no_grad()
@unchecked_values()
def encode(
    model: VAE,
    split: Split,
    *,
    indices: NDArray[np.int64] | None = None,
    batch_size: int = 256,
    progress: Progress | None = None,
    engine: InferenceEngine | None = None,
) -> Encoding:
    """Encodes the images of a split in order, without sampling.

    Args:
        model: its mode is not changed.
        split: the images.
        indices: positions in the split; by default all.
        batch_size: images per batch.
        progress: called with the number of finished images.
        engine: computes the posteriors; by default torch. Others than torch give no `kl`.

    Raises:
        ShapeError: the images do not have the model's input shape.
        ConfigError: the model is conditional, and the images do not have the labels that it knows.
        DataError: a latent is not finite.
    """
    table, engine = EncodingTable(model, split, indices), engine or TorchEngine(model)
    for rows, batch in iterate_batches(model, split, indices=indices, batch_size=batch_size, progress=progress):
        table.add(rows, engine.encode(batch.images, batch.labels, batch.weights))
        table.require_finite(rows, model)
    return table.encoding()
