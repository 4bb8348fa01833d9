"""The encodings of images by a frozen model, as training batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Int64
from numpy.typing import NDArray
from torch import Tensor

from convae.core.noise import CountedNoise, normal_like
from convae.core.posterior import CodePosterior, split_posterior
from convae.core.progress import Progress
from convae.core.random import numpy_generator, torch_generator
from convae.core.types import Batch, Latents, Shape
from convae.data.batches import ImageSet, in_order
from convae.model.compatibility import check_labels
from convae.model.inputs import unchecked_values
from convae.model.vae import VAE


@dataclass(frozen=True)
class Encodings:
    """The posteriors of images over the top latent of a model, on the CPU.

    Attributes:
        mean: (image, *latent), posterior means; empty of codes.
        std: (image, *latent), standard deviations; empty of codes.
        codes: (image, place) codes of all levels and positions in a row; None for continuous latents.
        labels: (image,) class numbers, -1 if missing; None without labels.
    """

    mean: Latents
    std: Latents
    codes: Int64[Tensor, "image place"] | None
    labels: Int64[Tensor, " image"] | None

    def __len__(self) -> int:
        return len(self.mean) if self.codes is None else len(self.codes)

    @property
    def shape(self) -> Shape:
        """The shape of one latent, or the number of codes."""
        return tuple((self.mean if self.codes is None else self.codes).shape[1:])

    def batch(self, positions: NDArray[np.int64], noise: CountedNoise, device: torch.device | str) -> Batch:
        """The encodings at positions as a batch: latents drawn from the posterior, or codes as floats.

        Args:
            positions: positions of the images.
            noise: for the latents.
            device: of the batch.
        """
        rows = torch.from_numpy(positions)
        if self.codes is None:
            mean = self.mean[rows]
            values = mean + self.std[rows] * normal_like(mean, noise)
        else:
            values = self.codes[rows].float()  # exact below 2²⁴, the largest codebook
        labels = None if self.labels is None else self.labels[rows].to(device)
        return Batch(values.to(device), labels, rows.to(device))

    def in_order(self, batch_size: int, seed: int, device: torch.device | str) -> Iterator[tuple[Batch, CountedNoise]]:
        """All encodings once in batches with noise for each, the same at every call."""
        for number, start in enumerate(range(0, len(self), batch_size)):
            positions = np.arange(start, min(start + batch_size, len(self)))
            noise = CountedNoise(seed, ("validation", number), 0, len(positions))
            yield self.batch(positions, noise.named("latent"), device), noise


@torch.no_grad()
def encode_images(
    model: VAE, split: ImageSet, batch_size: int, seed: int, progress: Progress | None = None
) -> Encodings:
    """Encodes the images of a split.

    Args:
        model: in evaluation mode.
        split: the images.
        batch_size: images per batch.
        seed: of latents of posteriors that are no diagonal Gaussians, of which one is kept for each image.
        progress: called with the number of finished images.

    Raises:
        ConfigError: the model is conditional, and the images do not have the labels that it knows.
    """
    check_labels(model, split.labels, split.source, split.classes)
    device = next(model.parameters()).device
    parts: list[tuple[Tensor, Tensor | None]] = []
    done = 0
    for batch in in_order(split, batch_size, device):
        with unchecked_values():
            posterior = split_posterior(model.encode(batch.images, batch.labels))[0]
        if isinstance(posterior, CodePosterior):
            parts.append(
                (posterior.codes.flatten(1).cpu() if posterior.codes.ndim > 1 else posterior.codes[:, None].cpu(), None)
            )
        elif model.bottleneck.is_diagonal:
            parts.append((posterior.mean.float().cpu(), (0.5 * posterior.logvar).exp().float().cpu()))
        else:
            drawn = posterior.sample(torch_generator(seed, "encodings", done)).float().cpu()
            parts.append((drawn, torch.zeros_like(drawn)))
        done += len(batch)
        if progress:
            progress(done, len(split), "encoding (images)")
    first = torch.cat([part for part, _ in parts])
    labels = None if split.labels is None else torch.from_numpy(np.asarray(split.labels, np.int64))
    if parts[0][1] is None:
        return Encodings(torch.empty(0, 0), torch.empty(0, 0), first.long(), labels)
    return Encodings(first, torch.cat([part for _, part in parts if part is not None]), None, labels)


class EncodedBatches:
    """Batches of encodings; a batch is a pure function of the seed, the epoch and the step.

    Args:
        encodings: of the training images.
        batch_size: images in a batch.
        seed: seed of the order and of the latents.
        classes: names of the classes; None without names.
    """

    levels: int | None = None

    def __init__(self, encodings: Encodings, batch_size: int, seed: int, classes: tuple[str, ...] | None) -> None:
        self.encodings, self.seed, self.classes = encodings, seed, classes
        self.batch_size = min(batch_size, len(encodings))
        self.waited = 0.0
        self._order = lru_cache(maxsize=1)(self._permutation)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch."""
        return len(self.encodings) // self.batch_size

    @property
    def shape(self) -> Shape:
        """The shape of one latent, or the number of codes."""
        return self.encodings.shape

    def iterate(
        self, epoch: int, start_step: int = 0, device: torch.device | str = "cpu", strength: float = 1.0
    ) -> Iterator[Batch]:
        """Iterates over the batches of an epoch from `start_step`; latents are drawn anew in each epoch."""
        for step in range(start_step, self.steps_per_epoch):
            chosen = self._order(epoch)[step * self.batch_size : (step + 1) * self.batch_size]
            noise = CountedNoise(self.seed, ("latents", epoch, step), 0, len(chosen))
            yield self.encodings.batch(chosen, noise, device)

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        return numpy_generator(self.seed, "order", epoch).permutation(len(self.encodings))
