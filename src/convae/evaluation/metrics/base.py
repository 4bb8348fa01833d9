"""Interface of metrics: a row of numbers per image, and a value computed from the mean row of a split.

Most values are the mean itself. Functions of means, such as a variance, are metrics as well, with confidence intervals
from the same bootstrap.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from convae.core.errors import ConfigError
from convae.core.posterior import GaussianPosterior
from convae.core.types import Latents
from convae.data import Split
from convae.evaluation.aggregate import log_aggregate, query_positions
from convae.evaluation.bootstrap import percentile_interval, resample_means
from convae.evaluation.factors import Factors, factors_of
from convae.latents.batches import EvalBatch
from convae.model.vae import VAE

SATURATED = 1.0
"""Mutual information of N images is at its bound if it is within so many nats of log N. Posteriors of different images
then hardly overlap, and the value would increase with more images."""


@dataclass(frozen=True)
class EncodedSplit:
    """The posteriors of all images of a split, in order, on the CPU.

    Attributes:
        model: the model.
        mean: (image, *latent), posterior means.
        logvar: (image, *latent), log-variances of the posteriors.
        sampled: (image, *latent), one sample from each posterior.
        labels: (image,) class numbers, -1 for unlabeled images; None without labels.
    """

    model: VAE
    mean: Latents
    logvar: Latents
    sampled: Latents
    labels: Int64[Tensor, " image"] | None

    @cached_property
    def queries(self) -> Int64[Tensor, " query"]:
        """Positions of the images at whose sampled latents the aggregate posterior is evaluated, at most 10,000."""
        return query_positions(len(self.sampled))

    @cached_property
    def log_posterior(self) -> Float64[Tensor, " query"]:
        """Log q(z | x) at the sampled latents, nats, for Gaussian posteriors."""
        queries = self.queries
        posterior = GaussianPosterior(self.mean[queries].double(), self.logvar[queries].double())
        return posterior.log_prob(self.sampled[queries].double())

    @cached_property
    def log_prior(self) -> Float64[Tensor, " query"]:
        """Log p(z) at the sampled latents, nats."""
        return self.model.prior.log_prob(self.sampled[self.queries].double())

    @cached_property
    def log_aggregate(self) -> Float64[Tensor, " query"]:
        """Log q(z) of the aggregate posterior of all images at the sampled latents, nats."""
        return log_aggregate(self.sampled[self.queries].flatten(1), self.mean.flatten(1), self.logvar.flatten(1))

    @cached_property
    def information_bound(self) -> float | None:
        """Log N if the mutual information of N images is at this bound, else None."""
        bound = math.log(len(self.mean))
        return bound if float((self.log_posterior - self.log_aggregate).mean()) > bound - SATURATED else None


class Metric(ABC):
    """A metric. Configuration is keyword-only.

    Attributes:
        unit: unit of the value.
        better: direction of improvement; None if there is none.
        per_value: whether the value is a list, such as of a number per latent value.
        default: whether `default` includes it; slow metrics are not included.
        needs: requirements, for messages.
        needs_whole_images: whether images must not have missing values.
        example: arguments for the contract tests.
    """

    unit: ClassVar[str]
    better: ClassVar[Literal["higher", "lower"] | None]
    per_value: ClassVar[bool] = False
    default: ClassVar[bool] = True
    needs: ClassVar[str] = ""
    needs_whole_images: ClassVar[bool] = False
    example: ClassVar[Mapping[str, Any]] = {}

    def applies(self, model: VAE, split: Split) -> bool:
        """Whether the metric applies to this model on these images."""
        return True

    def refusal(self, model: VAE, split: Split) -> str:
        """The reason why the metric does not apply to this model on these images, for messages; may be empty."""
        return f"it needs {self.needs}" if self.needs else ""

    def display_name(self, name: str) -> str:
        """The name in reports, given the registered name."""
        return name

    def protocol(self) -> Mapping[str, Any] | None:
        """Its configuration for the protocol; None for its arguments, which suit metrics without files."""
        return None

    def value(self, means: Float64[Tensor, "*some column"]) -> Float64[Tensor, "*some part"]:
        """The value for mean rows over a split, (…, column): (…, 1), or (…, part) if `per_value`."""
        return means


class ImageMetric(Metric):
    """A metric with rows computed batch by batch."""

    @abstractmethod
    def rows(self, batch: EvalBatch) -> Tensor:
        """The row of each image, (batch,) or (batch, column)."""


class CountMetric(Metric):
    """A metric of counts over the split, with a value for each named part and no confidence interval."""

    per_value: ClassVar[bool] = True

    @abstractmethod
    def counts(self, batch: EvalBatch) -> Mapping[str, Tensor]:
        """The counts of a batch by part, such as (code,) for a codebook; they are summed over batches."""

    @abstractmethod
    def measure(self, counts: Mapping[str, Tensor]) -> Mapping[str, float]:
        """The value of each part, given the counts over the split."""


class LatentMetric(Metric):
    """A metric with rows that depend on the posteriors of the entire split."""

    @abstractmethod
    def rows(self, encoded: EncodedSplit) -> Tensor:
        """The row of each image, (image,) or (image, column); images to which it does not apply are omitted."""

    def bounded_by(self, encoded: EncodedSplit) -> float | None:
        """The upper limit for this number of images if the value reaches it, and is only a lower bound; else None."""
        return None

    def unmeasurable(self, encoded: EncodedSplit) -> str | None:
        """The reason why the metric cannot be measured on these images; None if it can."""
        return None


class FactorMetric(Metric):
    """A metric of disentanglement, by posterior means and known factors of variation, with no confidence interval.

    Factors are categorical columns of the data. Images without a value of one of them are omitted.

    Args:
        factors: columns that are factors; by default all.
    """

    default: ClassVar[bool] = False
    needs: ClassVar[str] = "two or more latent values that are not codes, and two or more factors in the data"

    def __init__(self, *, factors: tuple[str, ...] | None = None) -> None:
        self.factors = factors

    def applies(self, model: VAE, split: Split) -> bool:
        """Whether no latent is a code, and the data has factors."""
        return self._fault(model, split) is None

    def refusal(self, model: VAE, split: Split) -> str:
        """The reason, such as missing factors."""
        return self._fault(model, split) or ""

    @abstractmethod
    def measure(self, latents: Float64[np.ndarray, "image value"], factors: Factors, seed: int) -> Mapping[str, float]:
        """The value of each named part; the name of a single part is empty.

        Args:
            latents: posterior means.
            factors: factors of the same images.
            seed: random seed.
        """

    def _fault(self, model: VAE, split: Split) -> str | None:
        if not has_continuous_latents(model) or model.latent_layout.size < 2:
            return f"it needs {self.needs}"
        try:
            factors_of(split.columns, self.factors)
        except ConfigError as error:
            return str(error)
        return None


@dataclass(frozen=True)
class Estimate:
    """A value and its confidence interval, if any."""

    value: float
    interval: tuple[float, float] | None


class FeatureMetric(Metric):
    """A metric of features of the images of a split and of as many other images.

    Attributes:
        least_images: smallest number of images.
    """

    needs_whole_images: ClassVar[bool] = True
    least_images: int = 2

    def applies(self, model: VAE, split: Split) -> bool:
        """Whether there are enough images."""
        return len(split) >= self.least_images

    def refusal(self, model: VAE, split: Split) -> str:
        """The number of images that it needs."""
        return f"it needs at least {self.least_images} images"

    @abstractmethod
    def measure(
        self, real: Float[Tensor, "image feature"], other: Float[Tensor, "image feature"], seed: int
    ) -> Estimate:
        """The value, with an interval if it has one; `seed` is that of its random numbers."""


class SampleMetric(FeatureMetric):
    """A metric of features of images and of as many samples from the prior."""


class ReconstructionMetric(FeatureMetric):
    """A metric of features of images and of their reconstructions at the posterior mean, in the same order."""


def estimate_from_rows(rows: Float64[Tensor, " row"], seed: int) -> Estimate:
    """The mean of rows, with a bootstrap interval if there are several."""
    value = float(rows.mean())
    if len(rows) == 1:
        return Estimate(value, None)
    low, high = percentile_interval(resample_means(rows[:, None], seed))[:, 0].tolist()
    return Estimate(value, (low, high))


def has_continuous_latents(model: VAE) -> bool:
    """Whether no latent is a code."""
    return not any(module.is_discrete for module in model.latent_modules)


def has_posterior_density(model: VAE) -> bool:
    """Whether all posteriors have a density: none is over codes or deterministic."""
    return has_continuous_latents(model) and has_elbo(model)


def has_elbo(model: VAE) -> bool:
    """Whether all posteriors have a finite KL divergence from the prior: none is deterministic."""
    return all(module.has_density for module in model.latent_modules)


def has_gaussian_posterior(model: VAE) -> bool:
    """Whether all posteriors are diagonal Gaussians."""
    return all(module.is_diagonal for module in model.latent_modules)


def has_single_gaussian(model: VAE) -> bool:
    """Whether there is one latent, with a diagonal Gaussian posterior."""
    return has_gaussian_posterior(model) and not model.is_hierarchical
