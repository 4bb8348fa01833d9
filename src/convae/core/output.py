"""The result of a forward pass: posterior, latent, likelihood and reported terms."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from convae.core.joint_posterior import split_latent
from convae.core.noise import Generators
from convae.core.posterior import CodePosterior, Posterior
from convae.core.types import AnyImages, Images, Latents, Logits, PerImage


class Likelihood(ABC):
    """Observation model p(x | z) of each image of a batch; images are (batch, channel, *sizes) in [0, 1]."""

    @property
    @abstractmethod
    def mean(self) -> Images:
        """The expected image, in [0, 1]."""

    @abstractmethod
    def sample(self, generator: torch.Generator | None = None) -> Images:
        """A sample for each latent, in [0, 1]."""

    @abstractmethod
    def log_prob_values(self, x: AnyImages) -> Images:
        """Log p of each value of each image given z, (batch, channel, *sizes), nats.

        Raises:
            ShapeError: `x` has another shape than the images, or is not float in [0, 1].
        """

    def log_prob(self, x: AnyImages, weights: Tensor | None = None) -> PerImage:
        """Log p(x | z) of each image, summed over its values, nats.

        Args:
            x: images.
            weights: (batch, channel or 1, *sizes), factor on the log-probability of each value: 0 of missing ones.

        Raises:
            ShapeError: `x` is not one image of the right shape, with floats in [0, 1], for each latent.
        """
        values = self.log_prob_values(x)
        return (values if weights is None else values * weights).flatten(1).sum(1)


@dataclass(frozen=True)
class ModelCalls:
    """Parts of the model that a term may call again, with the labels and the noise of the pass.

    `encode`, `decode` and `decode_prior` raise a `ConfigError` if the parameters of the model are sharded.

    Attributes:
        encode: images to q(z | x), in evaluation mode.
        decode: latents, one for each row of the batch, to p(x | z).
        sample_prior: samples of the prior of the top latent, as many as the batch has rows.
        decode_prior: p(x | z) of samples of the prior, of all latents, as many as the batch has rows; the samples have
            no gradient by the top latent's prior.
        noise: the noise of a name.
        raw: raw values of the decoder in the pass.
        likelihood: raw values to p(x | z).
        is_resizable: whether `decode` takes latent maps of other sizes.
    """

    encode: Callable[[Images], Posterior]
    decode: Callable[[Latents], Likelihood]
    sample_prior: Callable[[], Latents]
    decode_prior: Callable[[], Likelihood]
    noise: Callable[[str], Generators | None]
    raw: Tensor
    likelihood: Callable[[Tensor], Likelihood]
    is_resizable: bool = False


@dataclass(frozen=True)
class Output:
    """The result of a forward pass.

    Attributes:
        posterior: q(z | x) of each image.
        latent: (batch, *latent), the latent that was decoded.
        likelihood: p(x | z).
        terms: reported costs by term, (batch,) each, unweighted.
        logits: (batch, class) of the classifier; None without one.
        term_parts: reported costs of each term by quantizer.
        codes: posterior over the codes by quantizer: the name of its latent, or of its module, such as `encoder.2`.
        samples: number of latents drawn for each image. The batch of all attributes is then images × samples, with the
            rows of an image consecutive.
        calls: parts of the model to call again; None if the output is not from a model.
    """

    posterior: Posterior
    latent: Latents
    likelihood: Likelihood
    terms: Mapping[str, Tensor] = field(default_factory=dict)
    logits: Logits | None = None
    term_parts: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    codes: Mapping[str, CodePosterior] = field(default_factory=dict)
    samples: int = 1
    calls: ModelCalls | None = field(default=None, repr=False)

    def log_joint(self, x: Images, weights: Tensor | None = None) -> PerImage:
        """Log p(x, z) = log p(x | z) + log p(z) of the latents, nats, summed in float64 where the device has it.

        Args:
            x: an image for each row of the output.
            weights: of the values, see `Likelihood.log_prob`.
        """
        total = _as_float64(self.likelihood.log_prob(x, weights))
        return torch.stack([total, *(_as_float64(part.log_prior(z)) for part, z in self._latents)]).sum(0)

    def log_posterior(self) -> PerImage:
        """Log q(z | x) of the latents, nats, summed in float64 where the device has it."""
        return torch.stack([_as_float64(part.log_prob(z)) for part, z in self._latents]).sum(0)

    def log_weights(self, x: Images, weights: Tensor | None = None) -> PerImage:
        """Log p(x, z) − log q(z | x) of latents that were drawn from the posterior, nats.

        Their exponentials are the importance weights of log p(x) (Burda et al. 2016, arXiv:1509.00519).

        Args:
            x: an image for each row of the output.
            weights: of the values, see `Likelihood.log_prob`.
        """
        return self.log_joint(x, weights) - self.log_posterior()

    @property
    def _latents(self) -> list[tuple[Posterior, Tensor]]:
        """Each latent with its posterior."""
        return split_latent(self.posterior, self.latent)


def _as_float64(values: PerImage) -> PerImage:
    """Values in float64, which Apple's GPUs lack."""
    return values if values.device.type == "mps" else values.double()


def importance_bound(log_weights: Tensor) -> Tensor:
    """Log of the mean importance weight over the last axis, a lower bound on log p(x), nats (arXiv:1509.00519).

    Args:
        log_weights: (…, sample), of `Output.log_weights`.
    """
    return torch.logsumexp(log_weights, -1) - math.log(log_weights.shape[-1])
