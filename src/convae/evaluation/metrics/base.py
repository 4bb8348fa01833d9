"""The interface of metrics: rows of numbers, one per image, and a value computed from their mean over a split.

Most values are that mean. Whatever else can be written as a function of means, such as a variance, can be a metric
too, and gets its confidence interval from the same bootstrap.
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
        return self.model.prior.log_prob(self.drawn[self.queries].double())

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
    """A metric. Configuration is keyword-only.

    Attributes:
        unit: of the value.
        better: in which direction it improves; None where neither is better.
        per_value: whether the value is a list with a number per latent dimension, rather than one number.
        default: whether it is measured when no metrics are named; slow ones are not.
        needs: its requirements, for messages.
        needs_whole_images: whether it does not apply to images with missing values.
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
        """Why the metric does not apply to this model on these images; empty where `applies` says all."""
        return f"it needs {self.needs}" if self.needs else ""

    def display_name(self, name: str) -> str:
        """Name in reports; `name` is the registered one."""
        return name

    def protocol(self) -> Mapping[str, Any] | None:
        """What the protocol says of it; None where its arguments say all, as they do if they name no files."""
        return None

    def value(self, means: Float64[Tensor, "*some column"]) -> Float64[Tensor, "*some part"]:
        """The value from the rows' mean over the split: one number, or `per_value` several."""
        return means


class ImageMetric(Metric):
    """A metric whose rows need one batch at a time."""

    @abstractmethod
    def rows(self, batch: EvalBatch) -> Tensor:
        """(batch,) or (batch, column): what each image adds."""


class CountMetric(Metric):
    """A metric of counts over the whole split, with a value for each of several named parts and without an interval."""

    per_value: ClassVar[bool] = True

    @abstractmethod
    def counts(self, batch: EvalBatch) -> Mapping[str, Tensor]:
        """What a batch adds to the counts of each part by its name, such as (code,) of a codebook."""

    @abstractmethod
    def measure(self, counts: Mapping[str, Tensor]) -> Mapping[str, float]:
        """The value of each part, from its counts over the split."""


class LatentMetric(Metric):
    """A metric whose rows need the latents of the whole split."""

    @abstractmethod
    def rows(self, encoded: Encoded) -> Tensor:
        """(image,) or (image, column): what each image adds; images that cannot count are left out."""

    def bounded_by(self, encoded: Encoded) -> float | None:
        """The bound that the value has practically reached on so few images, so that it is only a lower bound."""
        return None

    def unmeasurable(self, encoded: Encoded) -> str | None:
        """Why the metric cannot be measured on these images; None where it can."""
        return None


class FactorMetric(Metric):
    """A metric of disentanglement, which compares posterior means with known factors of variation; no interval.

    Factors are categorical columns of the data. Images without a value of one of them are omitted.

    Args:
        factors: columns that are factors; by default all.
    """

    default: ClassVar[bool] = False
    needs: ClassVar[str] = "two or more latent values that are not codes, and two or more factors in the data"

    def __init__(self, *, factors: tuple[str, ...] | None = None) -> None:
        self.factors = factors

    def applies(self, model: VAE, split: Split) -> bool:
        """Whether latents are not codes, and the data has factors."""
        return self._fault(model, split) is None

    def refusal(self, model: VAE, split: Split) -> str:
        """What is wrong with the latents or the factors."""
        return self._fault(model, split) or ""

    @abstractmethod
    def measure(self, latents: Float64[np.ndarray, "image value"], factors: Factors, seed: int) -> Mapping[str, float]:
        """The value of each named part; the name of a single one is empty.

        Args:
            latents: posterior means.
            factors: of the same images.
            seed: of what is drawn.
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
    """A value and its confidence interval, where there is one."""

    value: float
    interval: tuple[float, float] | None


class SampleMetric(Metric):
    """A metric that compares features of the images with those of as many samples from the prior."""

    needs_whole_images: ClassVar[bool] = True

    @abstractmethod
    def measure(
        self, real: Float[Tensor, "image feature"], drawn: Float[Tensor, "image feature"], seed: int
    ) -> Estimate:
        """The value; `seed` is that of the bootstrap."""


def estimate_from_rows(rows: Float64[Tensor, " row"], seed: int) -> Estimate:
    """The rows' mean, and its bootstrap interval where there are several."""
    ends = percentile_interval(resample_means(rows[:, None], seed))[:, 0].tolist() if len(rows) > 1 else None
    return Estimate(float(rows.mean()), None if ends is None else (ends[0], ends[1]))


def has_continuous_latents(model: VAE) -> bool:
    """Whether no latents are codes."""
    return not any(module.is_discrete for module in model.latent_modules)


def has_posterior_density(model: VAE) -> bool:
    """Whether all posteriors have a density: they are neither codes nor deterministic."""
    return has_continuous_latents(model) and has_elbo(model)


def has_elbo(model: VAE) -> bool:
    """Whether all posteriors have a KL divergence from the prior: none is deterministic."""
    return all(module.has_density for module in model.latent_modules)


def has_gaussian_posterior(model: VAE) -> bool:
    """Whether the posteriors are diagonal Gaussians: they have a density, and independent values."""
    return all(module.is_diagonal for module in model.latent_modules)


def has_single_gaussian(model: VAE) -> bool:
    """Whether there is one latent with a diagonal Gaussian posterior, which does not depend on other latents."""
    return has_gaussian_posterior(model) and not model.is_hierarchical
