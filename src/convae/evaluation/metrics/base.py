"""What a metric is: rows of numbers, one for each image, and a figure that is made of their mean over a split.

Most figures are that mean. Whatever else can be written as a function of means, such as a variance, can be a metric
too, and gets its confidence interval from the same bootstrap.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from convae.core.random import torch_generator
from convae.core.types import Images, Latents, PerImage
from convae.data import Split
from convae.evaluation.aggregate import log_aggregate, query_positions
from convae.evaluation.bootstrap import interval, resampled_means
from convae.model.bottlenecks.gaussian import Gaussian, GaussianPosterior
from convae.model.likelihoods.base import Likelihood
from convae.model.vae import VAE, Output


@dataclass(frozen=True)
class Passes:
    """A batch on its way through the model; each pass happens when a metric first asks for it.

    Attributes:
        model: in evaluation mode.
        images: (batch, channel, *sizes) in [0, 1].
        indices: (batch,) positions in the split.
        seed: of everything drawn.
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
        """What the latents of the ELBO are drawn from: the first for `drawn`, more for a mean over several."""
        return self.generators("latent")

    @cached_property
    def drawn(self) -> Output:
        """The pass whose latent was drawn from the posterior: what the ELBO is an expectation over."""
        output: Output = self.model(self.images, self.latent_generators, self.labels)
        return output

    @cached_property
    def expected(self) -> Likelihood:
        """What the posterior's mean decodes to: what a user gets as the reconstruction."""
        return self.model.decode(self.drawn.posterior.mean, self.labels)

    @cached_property
    def log_likelihood(self) -> PerImage:
        """Log p(x | z) of the drawn latent, nats per image."""
        return self.drawn.likelihood.log_prob(self.images)

    @cached_property
    def bound(self) -> PerImage:
        """Log p(x | z) − KL: the ELBO with one drawn latent, nats per image."""
        return self.log_likelihood - self.drawn.posterior.kl()


SATURATED = 1.0
"""Nats below log N within which the mutual information of N images is at its bound: hardly any posterior then overlaps
with that of another image, and more images would give more."""


@dataclass(frozen=True)
class Encoded:
    """The latents of a whole split, in its order, on the CPU.

    Attributes:
        model: what encoded them.
        mean: (image, *latent) of the posteriors.
        logvar: (image, *latent) of the posteriors.
        drawn: (image, *latent), one latent drawn from each posterior.
        labels: (image,) class numbers, -1 where one is missing; None without labels.
    """

    model: VAE
    mean: Latents
    logvar: Latents
    drawn: Latents
    labels: Int64[Tensor, " image"] | None

    @cached_property
    def queries(self) -> Int64[Tensor, " query"]:
        """The images whose drawn latents the aggregate posterior is evaluated at, 10,000 at most."""
        return query_positions(len(self.drawn))

    @cached_property
    def log_posterior(self) -> Float64[Tensor, " query"]:
        """Each Gaussian posterior's density at its own drawn latent, nats."""
        asked = self.queries
        posterior = GaussianPosterior(self.mean[asked].double(), self.logvar[asked].double())
        return posterior.log_prob(self.drawn[asked].double())

    @cached_property
    def log_prior(self) -> Float64[Tensor, " query"]:
        """The prior's density at the drawn latents, nats."""
        return self.model.bottleneck.log_prior(self.drawn[self.queries].double())

    @cached_property
    def log_aggregate(self) -> Float64[Tensor, " query"]:
        """The density of the aggregate posterior of all images at the drawn latents, nats."""
        return log_aggregate(self.drawn[self.queries].flatten(1), self.mean.flatten(1), self.logvar.flatten(1))

    @cached_property
    def information_bound(self) -> float | None:
        """Log N, where the mutual information of N images is at that bound; None where it is measured."""
        bound = math.log(len(self.mean))
        return bound if float((self.log_posterior - self.log_aggregate).mean()) > bound - SATURATED else None


class Metric(ABC):
    """One named figure. Configuration is keyword-only.

    Attributes:
        unit: what the figure is measured in.
        better: in which direction it improves; None where neither is better.
        per_value: whether the figure is a list with a number for each latent value, rather than one number.
        default: whether it is measured when no metrics are named; those that take long are not.
        needs: what it cannot be measured without, for messages.
        example: arguments for the contract tests.
    """

    unit: ClassVar[str]
    better: ClassVar[Literal["higher", "lower"] | None]
    per_value: ClassVar[bool] = False
    default: ClassVar[bool] = True
    needs: ClassVar[str] = ""
    example: ClassVar[Mapping[str, Any]] = {}

    def applies(self, model: VAE, split: Split) -> bool:
        """Whether the figure means something for this model on these images."""
        return True

    def called(self, name: str) -> str:
        """What the figure is called; `name` is the metric's."""
        return name

    def described(self) -> Mapping[str, Any] | None:
        """What the protocol says of it; None where its arguments say all, as they do if they name no files."""
        return None

    def figure(self, means: Float64[Tensor, "*some column"]) -> Float64[Tensor, "*some part"]:
        """The figure from the rows' mean over the split: one number, or `per_value` several."""
        return means


class ImageMetric(Metric):
    """A metric whose rows need one batch at a time."""

    @abstractmethod
    def rows(self, passes: Passes) -> Tensor:
        """(batch,) or (batch, column): what each image adds."""


class LatentMetric(Metric):
    """A metric whose rows need the latents of the whole split."""

    @abstractmethod
    def rows(self, encoded: Encoded) -> Tensor:
        """(image,) or (image, column): what each image adds; images that cannot count are left out."""

    def bounded_by(self, encoded: Encoded) -> float | None:
        """What the figure cannot exceed on so few images and is as good as at, so that it is only a lower bound."""
        return None

    def unmeasurable(self, encoded: Encoded) -> str | None:
        """Why these images cannot give the figure; None where they can."""
        return None


@dataclass(frozen=True)
class Measured:
    """A figure and its interval, where there is one."""

    value: float
    ends: tuple[float, float] | None


class SampleMetric(Metric):
    """A metric that compares features of the images with those of as many samples from the prior."""

    @abstractmethod
    def measure(
        self, real: Float[Tensor, "image feature"], drawn: Float[Tensor, "image feature"], seed: int
    ) -> Measured:
        """The figure; `seed` is that of the bootstrap."""


def measured_by_rows(rows: Float64[Tensor, " row"], seed: int) -> Measured:
    """The rows' mean, and its bootstrap interval where there are several."""
    ends = interval(resampled_means(rows[:, None], seed))[:, 0].tolist() if len(rows) > 1 else None
    return Measured(float(rows.mean()), None if ends is None else (ends[0], ends[1]))


def gaussian(model: VAE) -> bool:
    """Whether the posteriors are Gaussians: they have a density, and independent values."""
    return isinstance(model.bottleneck, Gaussian)
