"""Batches of a split with their passes through a model, for encoding, scores and metrics."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Int64
from numpy.typing import NDArray
from torch import Tensor

from convae.core.code_usage import count_codes
from convae.core.errors import ConfigError, ShapeError
from convae.core.names import shape_text
from convae.core.output import Likelihood, Output
from convae.core.posterior import Posterior
from convae.core.progress import Progress
from convae.core.random import torch_generator
from convae.core.types import Images, Latents, PerImage
from convae.data import Split, in_order
from convae.latents.refinement import refine
from convae.model.autoencoder import Features
from convae.model.compatibility import check_labels
from convae.model.mode import evaluation_mode
from convae.model.vae import VAE


@dataclass(frozen=True)
class EvalBatch:
    """A batch of images and its passes through a model; each pass runs on first use.

    Attributes:
        model: model in evaluation mode.
        images: (batch, channel, *sizes) in [0, 1].
        indices: (batch,) positions in the split.
        seed: seed of the latents.
        labels: (batch,) class numbers, -1 if missing; None without labels.
        weights: (batch, channel or 1, *sizes), weight of each value: 0 where it is missing and `images` holds the fill
            value; None where all are observed.
        refinement_steps: steps that refine the posterior of each image, see `refine`; 0 for the encoder's.
    """

    model: VAE
    images: Images
    indices: Int64[Tensor, " batch"]
    seed: int
    labels: Int64[Tensor, " batch"] | None = None
    weights: Tensor | None = None
    refinement_steps: int = 0

    @cached_property
    def observed(self) -> PerImage:
        """Number of observed values of each image, a sum of weights."""
        if self.weights is None:
            return self.images.new_full((len(self.images),), self.images[0].numel())
        return self.weights.expand_as(self.images).flatten(1).sum(1)

    def observed_mean(self, values: Tensor) -> PerImage:
        """Mean over the observed values of each image.

        Args:
            values: (batch, channel, *sizes).
        """
        if self.weights is None:
            return values.flatten(1).mean(1)
        return (values * self.weights).flatten(1).sum(1) / self.observed

    def generators(self, purpose: str) -> list[torch.Generator]:
        """A generator per image, which depends on its position in the split, not on its batch."""
        return [torch_generator(self.seed, "evaluation", purpose, index) for index in self.indices.tolist()]

    @cached_property
    def latent_generators(self) -> list[torch.Generator]:
        """The generators of the posterior samples of the ELBO: first for `drawn`, then for a mean over several."""
        return self.generators("latent")

    @cached_property
    def features(self) -> Features:
        """The features of the encoder, or the refined head of the bottleneck."""
        if self.refinement_steps:
            return refine(self.model, self.images, self.labels, steps=self.refinement_steps, weights=self.weights)
        return self.model.encode_features(self.images, self.labels)

    @cached_property
    def drawn(self) -> Output:
        """The output for one posterior sample per image."""
        return self.model.decode_features(self.features, noise=self.latent_generators)

    @cached_property
    def along_means(self) -> Output:
        """The output with the posterior mean of each latent in place of a sample."""
        return self.model.decode_features(self.features, "mean")

    @cached_property
    def posterior(self) -> Posterior:
        """The approximate posteriors q(z | x); in hierarchies, along the posterior means."""
        return self.along_means.posterior if self.model.is_hierarchical else self.model.posterior_of(self.features)

    @cached_property
    def drawn_moments(self) -> tuple[Latents, Latents]:
        """Mean and variance of latents drawn from the posteriors, (batch, *latent) each, in float64 on the CPU.

        Of posteriors whose mean is not the expectation, one latent for each image, and no variance.
        """
        if all(module.is_mean_expected for module in self.model.latent_modules):
            return self.posterior.mean.cpu().double(), self.posterior.logvar.cpu().double().exp()
        drawn = self.posterior.sample(self.generators("moments")).cpu().double()
        return drawn, torch.zeros_like(drawn)

    @property
    def drawn_posterior(self) -> Posterior:
        """The posteriors of the ELBO's KL divergence; in hierarchies, those of the posterior samples."""
        is_exact = not self.model.is_hierarchical and self.posterior.has_closed_kl
        return self.posterior if is_exact else self.drawn.posterior

    @cached_property
    def code_counts(self) -> dict[str, Tensor]:
        """How often the batch uses each code, (code,) for each codebook by its name."""
        return count_codes(self.drawn.codes)

    @cached_property
    def reconstruction(self) -> Likelihood:
        """The likelihood at the posterior mean; its mean is the reconstruction."""
        if self.model.is_hierarchical:  # whose posteriors take a pass through the decoder
            return self.along_means.likelihood
        return self.model.decode(self.posterior.mean, self.labels)

    @cached_property
    def log_likelihood(self) -> PerImage:
        """Log p(x | z) of the posterior sample, nats per image."""
        return self.drawn.likelihood.log_prob(self.images, self.weights)

    @cached_property
    def elbo(self) -> PerImage:
        """ELBO with one posterior sample, nats per image."""
        return self.log_likelihood - self.drawn_posterior.kl()


def iterate_batches(
    model: VAE,
    split: Split,
    *,
    indices: NDArray[np.int64] | None = None,
    batch_size: int = 256,
    seed: int = 0,
    refinement_steps: int = 0,
    progress: Progress | None = None,
    what: str = "encoding (images)",
) -> Iterator[tuple[slice, EvalBatch]]:
    """Iterates over the images of a split in order, with the rows of each batch.

    Args:
        model: in evaluation mode during the iteration; its mode is restored.
        split: the images.
        indices: positions in the split; by default all.
        batch_size: images per batch.
        seed: seed of the latents.
        refinement_steps: steps that refine the posterior of each image.
        progress: called with the number of finished images.
        what: description for `progress`.

    Raises:
        ShapeError: the images do not have the model's input shape.
        ConfigError: the images are not a split, or the model is conditional and they do not have labels that it knows.
    """
    require_split(split)
    if split.shape != model.input_shape:
        raise ShapeError(f"the model takes {shape_text(model.input_shape)}, the images are {shape_text(split.shape)}")
    check_labels(model, split.labels, split.source, split.classes)
    wanted = np.arange(len(split)) if indices is None else indices
    done = 0
    for batch in in_order(split, batch_size, next(model.parameters()).device, wanted):
        with evaluation_mode(model):
            yield (
                slice(done, done + len(batch)),
                EvalBatch(model, batch.images, batch.indices, seed, batch.labels, batch.weights, refinement_steps),
            )
        done += len(batch)
        if progress:
            progress(done, len(wanted), what)


def require_split(images: object) -> None:
    """Checks that images are a split, not an array or a dataset.

    Raises:
        ConfigError: they are not.
    """
    if not hasattr(images, "describe"):
        raise ConfigError(
            f"images: expected a split, got {type(images).__name__}. Pass convae.Session(model, data=images).images"
        )
