"""The images of a split going through a model, batch by batch: what encoding, scores and metrics are computed from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Int64
from numpy.typing import NDArray
from torch import Tensor

from convae.core.errors import ShapeError
from convae.core.names import shape_text
from convae.core.output import Likelihood, Output
from convae.core.posterior import Posterior
from convae.core.progress import Progress
from convae.core.random import torch_generator
from convae.core.types import Images, PerImage
from convae.data import Split, in_order
from convae.model.compatibility import check_labels
from convae.model.mode import evaluation_mode
from convae.model.vae import VAE, Features


@dataclass(frozen=True)
class EvalBatch:
    """A batch of images and its passes through a model; each pass is run when it is first used.

    Attributes:
        model: in evaluation mode.
        images: (batch, channel, *sizes) in [0, 1].
        indices: (batch,) positions in the split.
        seed: of the latents that are drawn.
        labels: (batch,) class numbers, -1 where one is missing; None without labels.
    """

    model: VAE
    images: Images
    indices: Int64[Tensor, " batch"]
    seed: int
    labels: Int64[Tensor, " batch"] | None = None

    def generators(self, purpose: str) -> list[torch.Generator]:
        """A generator for each image, which depends on its position in the split and not on its batch."""
        return [torch_generator(self.seed, "evaluation", purpose, index) for index in self.indices.tolist()]

    @cached_property
    def latent_generators(self) -> list[torch.Generator]:
        """The generators of the ELBO's latents: first for `drawn`, then for a mean over several."""
        return self.generators("latent")

    @cached_property
    def features(self) -> Features:
        """The encoder's features, from which latents are drawn."""
        return self.model.encode_features(self.images, self.labels)

    @cached_property
    def drawn(self) -> Output:
        """The pass with one latent drawn from each posterior: the ELBO is an expectation over it."""
        return self.model.decode_features(self.features, noise=self.latent_generators)

    @cached_property
    def posterior(self) -> Posterior:
        """The approximate posteriors q(z | x); of several latents, those along the posterior means."""
        return self.model.posterior_of(self.features)

    @property
    def drawn_posterior(self) -> Posterior:
        """The posteriors whose KL divergence the ELBO has: those of the drawn latents where they differ."""
        is_closed = self.model.prior.has_closed_kl and not self.model.is_hierarchical
        return self.posterior if is_closed else self.drawn.posterior

    @cached_property
    def reconstruction(self) -> Likelihood:
        """The likelihood at the posterior mean, whose mean is the reconstruction."""
        return self.model.decode(self.posterior.mean, self.labels)

    @cached_property
    def log_likelihood(self) -> PerImage:
        """Log p(x | z) of the drawn latent, nats per image."""
        return self.drawn.likelihood.log_prob(self.images)

    @cached_property
    def elbo(self) -> PerImage:
        """Log p(x | z) − KL with one drawn latent, nats per image."""
        return self.log_likelihood - self.drawn_posterior.kl()


def iterate_batches(
    model: VAE,
    split: Split,
    *,
    indices: NDArray[np.int64] | None = None,
    batch_size: int = 256,
    seed: int = 0,
    progress: Progress | None = None,
    what: str = "encoding (images)",
) -> Iterator[tuple[slice, EvalBatch]]:
    """The images of a split in its order, with the rows that each batch has in a table of all of them.

    Args:
        model: is in evaluation mode while a batch is used, and left in the mode that it was in.
        split: the images.
        indices: positions in the split; without them, all.
        batch_size: images at a time.
        seed: of the latents that are drawn.
        progress: called with the number of images that are done.
        what: is done, for the progress.

    Raises:
        ShapeError: the images do not have the model's input shape.
        ConfigError: the model is conditional, and the images do not have the labels that it knows.
    """
    if split.shape != model.input_shape:
        raise ShapeError(f"the model takes {shape_text(model.input_shape)}, the images are {shape_text(split.shape)}")
    check_labels(model, split.labels, split.source, split.classes)
    wanted = np.arange(len(split)) if indices is None else indices
    done = 0
    for batch in in_order(split, batch_size, next(model.parameters()).device, wanted):
        with evaluation_mode(model):
            yield slice(done, done + len(batch)), EvalBatch(model, batch.images, batch.indices, seed, batch.labels)
        done += len(batch)
        if progress:
            progress(done, len(wanted), what)
