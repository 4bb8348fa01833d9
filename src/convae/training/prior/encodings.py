"""The encodings of images by a frozen model, as training batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Int64
from numpy.typing import NDArray
from torch import Tensor

from convae.core.joint_posterior import JointPosterior
from convae.core.noise import CountedNoise, normal_like
from convae.core.posterior import CodePosterior
from convae.core.progress import Progress
from convae.core.random import numpy_generator, torch_generator
from convae.core.types import Batch, Latents, Shape, slice_bounds
from convae.data.batches import in_order, require_image_per_rank
from convae.data.image_set import ImageSet, evenly_spaced
from convae.model.bottlenecks.base import LATENT
from convae.model.compatibility import check_labels
from convae.model.inputs import unchecked_values
from convae.model.vae import VAE
from convae.training.distributed import Ranks


@dataclass(frozen=True)
class Encodings:
    """The posteriors of images over the latents that a prior covers, on the CPU.

    Attributes:
        mean: (image, *latent), posterior means; empty of codes.
        std: (image, *latent), standard deviations; empty of codes.
        codes: (image, place) codes of all latents, levels and positions in a row; None for continuous latents.
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
            positions: positions of the images, of a global batch or of a slice of it.
            noise: for the latents; also states where in the global batch the images are.
            device: of the batch.
        """
        rows = torch.from_numpy(positions)
        if self.codes is None:
            mean = self.mean[rows]
            values = mean + self.std[rows] * normal_like(mean, noise)
        else:
            values = self.codes[rows].float()  # exact below 2²⁴, the largest codebook
        labels = None if self.labels is None else self.labels[rows].to(device)
        return Batch(values.to(device), labels, rows.to(device), noise.start, noise.global_size)

    def sample(self, count: int, seed: int, device: torch.device | str) -> Batch:
        """Evenly spaced encodings, at most `count`, the same at every call."""
        positions = evenly_spaced(len(self), count)
        return self.batch(positions, CountedNoise(seed, ("latent", "sample"), 0, len(positions)), device)

    def in_order(
        self, batch_size: int, seed: int, device: torch.device | str, part: tuple[int, int] = (0, 1)
    ) -> Iterator[tuple[Batch, CountedNoise]]:
        """All encodings once in batches with noise for each, the same at every call.

        With several processes, rank `part[0]` of `part[1]` takes every `part[1]`-th batch.
        """
        for number, start in list(enumerate(range(0, len(self), batch_size)))[part[0] :: part[1]]:
            positions = np.arange(start, min(start + batch_size, len(self)))
            noise = CountedNoise(seed, ("validation", number), 0, len(positions))
            yield self.batch(positions, noise.named("latent"), device), noise


@torch.no_grad()
def encode_images(
    model: VAE,
    split: ImageSet,
    batch_size: int,
    seed: int,
    progress: Progress | None = None,
    ranks: Ranks | None = None,
    latents: Sequence[str] = (LATENT,),
) -> Encodings:
    """Encodes the images of a split; several processes share the batches, and all get all encodings.

    Args:
        model: in evaluation mode.
        split: the images.
        batch_size: images per batch.
        seed: of latents of posteriors that are no diagonal Gaussians, of which one is kept for each image.
        progress: called with the number of finished images.
        ranks: the processes.
        latents: names of the latents to encode; several must be codes.

    Raises:
        ConfigError: the model is conditional, and the images do not have the labels that it knows.
    """
    check_labels(model, split.labels, split.source, split.classes)
    ranks = ranks or Ranks()
    device = next(model.parameters()).device
    own: list[tuple[Tensor, Tensor | None]] = []
    for number, batch in enumerate(in_order(split, batch_size, device, part=(ranks.number, ranks.count))):
        begin = (number * ranks.count + ranks.number) * batch_size
        own.append(_encode_batch(model, batch, latents, torch_generator(seed, "encodings", begin)))
        if progress:
            progress(min(begin + ranks.count * batch_size, len(split)), len(split), "encoding (images)")
    gathered, count = ranks.gather(own), -(-len(split) // batch_size)
    parts = [gathered[number % ranks.count][number // ranks.count] for number in range(count)]
    first = torch.cat([part for part, _ in parts])
    labels = None if split.labels is None else torch.from_numpy(np.asarray(split.labels, np.int64))
    if parts[0][1] is None:
        return Encodings(torch.empty(0, 0), torch.empty(0, 0), first, labels)
    return Encodings(first, torch.cat([part for _, part in parts if part is not None]), None, labels)


def _encode_batch(
    model: VAE, batch: Batch, latents: Sequence[str], generator: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """Codes, (batch, place), and None; or means and standard deviations, (batch, *latent) each."""
    with unchecked_values():
        posterior = model.encode(batch.images, batch.labels)
    parts = posterior.parts if isinstance(posterior, JointPosterior) else {LATENT: posterior}
    first, *others = (parts[name] for name in latents)
    if isinstance(first, CodePosterior):
        each = [part.codes.reshape(len(part.codes), -1) for part in (first, *others) if isinstance(part, CodePosterior)]
        return torch.cat(each, 1).cpu().long(), None
    if model.bottleneck.is_diagonal:
        return first.mean.float().cpu(), (0.5 * first.logvar).exp().float().cpu()
    drawn = first.sample(generator).float().cpu()
    return drawn, torch.zeros_like(drawn)


class EncodedBatches:
    """Batches of encodings; a batch is a pure function of the seed, the epoch and the step.

    Args:
        encodings: of the training images.
        batch_size: images in a batch.
        seed: seed of the order and of the latents.
        classes: names of the classes; None without names.
        part: (rank, world size): the consecutive part of each global batch to return.

    Raises:
        ConfigError: a batch has fewer images than there are processes.
    """

    levels: int | None = None

    def __init__(
        self,
        encodings: Encodings,
        batch_size: int,
        seed: int,
        classes: tuple[str, ...] | None,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        self.encodings, self.seed, self.classes = encodings, seed, classes
        self.batch_size = min(batch_size, len(encodings))
        self._part = part
        require_image_per_rank(self.batch_size, part[1])
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
            begin, end = slice_bounds(len(chosen), self._part[1])[self._part[0] : self._part[0] + 2]
            noise = CountedNoise(self.seed, ("latents", epoch, step), begin, len(chosen))
            yield self.encodings.batch(chosen[begin:end], noise, device)

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        return numpy_generator(self.seed, "order", epoch).permutation(len(self.encodings))
