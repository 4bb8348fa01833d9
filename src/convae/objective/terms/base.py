"""Loss term interface: one unweighted value per image, in a stated unit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

from jaxtyping import Int64
from torch import Tensor, nn

from convae.core.errors import ConfigError
from convae.core.output import ModelCalls, Output
from convae.core.posterior import GaussianPosterior, Posterior, without_prior
from convae.core.types import Images, PerImage, Shape
from convae.objective.schedules.base import Moment

NO_CODES = "the KL divergence of codes is constant. Remove this term, and give those that the quantizer requires"
"""Message of terms of continuous posteriors."""
_UNBOUND = "has no network of its own yet. Call objective.bind(model.latent_shape, model.input_shape) first"
"""Message of terms with a network that trains beside the model, before the shapes of the model are known."""

NO_TEACHER = "needs a teacher. Set start (--start) to a trained model, or run convae distill MODEL"
"""Message of terms of distillation, without a trained model to compare with."""


def missing_term(name: str) -> str:
    """The message of a term that needs another one in the objective."""
    return f"needs the term {name} in the objective. Add it; with weight 0, it does not train the model"


@dataclass(frozen=True)
class LossInputs:
    """Inputs of a loss term: a batch and the model's output for it.

    Attributes:
        values: (batch, channel, *sizes) in [0, 1], with the fill value where one is missing; terms that do not regard
            `weights` use `images`.
        labels: (batch,) class numbers, -1 where one is missing; None where the data has none.
        output: output of the model.
        moment: progress of training, for scheduled arguments.
        labeled_fraction: where the images are a slice of a larger batch, the fraction of its images that have a label.
        data_size: number of images in the data; None where that is unknown.
        weight: of the term in the objective at this moment.
        value_weights: (batch, channel or 1, *sizes), weight of each value, 0 if missing; None if all are observed.
        critics: networks that train beside the model, by the names of their terms.
    """

    values: Images
    labels: Int64[Tensor, " batch"] | None
    output: Output
    moment: Moment
    labeled_fraction: float | None = None
    data_size: int | None = None
    weight: float = 1.0
    value_weights: Tensor | None = None
    critics: Mapping[str, Critic] = field(default_factory=dict, repr=False)

    @property
    def images(self) -> Images:
        """(batch, channel, *sizes) in [0, 1], without missing values.

        Raises:
            ConfigError: there are missing values.
        """
        if self.value_weights is not None:
            raise ConfigError("compares whole images, but these have missing values. Use reconstruction")
        return self.values

    def weighted(self, cost: Tensor) -> Tensor:
        """A cost of each value, (batch, channel, *sizes), times its weight."""
        return cost if self.value_weights is None else cost * self.value_weights

    @property
    def samples(self) -> int:
        """Number of rows of each image, which stand together: the latents drawn for it."""
        return self.output.samples

    @property
    def reconstruction(self) -> Images:
        """Mean of p(x | z), in [0, 1]."""
        return self.output.likelihood.mean

    @property
    def posterior(self) -> Posterior:
        """Approximate posterior q(z | x), if its KL divergence from the prior is finite and depends on the image.

        Raises:
            ConfigError: the bottleneck is a codebook, whose KL divergence is constant, or deterministic.
        """
        if not self.output.posterior.has_density:
            raise ConfigError("a deterministic latent has no KL divergence. Remove this term")
        if self.output.posterior.is_discrete:
            raise ConfigError(NO_CODES)
        return self.output.posterior

    @property
    def gaussian(self) -> GaussianPosterior:
        """The approximate posterior, where it is a diagonal Gaussian and the only one.

        Raises:
            ConfigError: it is another one.
        """
        posterior = without_prior(self.posterior)
        if not isinstance(posterior, GaussianPosterior):
            raise ConfigError("needs a model with one latent, with a diagonal Gaussian posterior. Remove this term")
        return posterior

    @property
    def calls(self) -> ModelCalls:
        """Parts of the model, to be called again.

        Raises:
            ConfigError: the output is not from a model.
        """
        if self.output.calls is None:
            raise ConfigError("needs the output of a convae.VAE")
        return self.output.calls

    def reported(self, name: str, lack: str) -> PerImage:
        """A term that the bottleneck reported, (batch,).

        Raises:
            ConfigError: the bottleneck reports no such term; `lack` is the message.
        """
        if name not in self.output.terms:
            raise ConfigError(lack)
        return self.output.terms[name]


class Critic(nn.Module, ABC):
    """Network that a term trains beside the model: against it, as a discriminator, or for it, as a projection.

    The trainer gives it its own optimizer, that of the stage with the options of `optimizer`, and a step after that of
    the model, and saves it in checkpoints.

    Attributes:
        optimizer: options of its optimizer that differ from those of the stage.
        metric_units: unit of each of its `metrics` that the curves of a run show.
    """

    optimizer: Mapping[str, Any] = {}
    metric_units: ClassVar[Mapping[str, str]] = {}

    @abstractmethod
    def loss(self, inputs: LossInputs) -> PerImage:
        """Its loss, (batch,); without gradient for the model."""

    def metrics(self) -> Mapping[str, Tensor]:
        """Scalars for the log, by name."""
        return {}

    def warning(self) -> str | None:
        """A warning, such as that it has won; None if all is well."""
        return None


class Term(nn.Module, ABC):
    """Loss term: one value per image, smaller is better. Configuration is keyword-only.

    With several latents for each image, the objective averages a term over them. A term that needs a number of them
    states it as `samples_per_image`.

    Without a term that `regularizes_posterior`, which holds the posteriors to the prior, a model is an autoencoder.

    `unit` is the unit of the value; the weight converts it to nats, the unit of the total. `default_weight`, usually
    that of the paper, is the weight in the default objective of a model that requires the term. `required_terms` are
    names of other terms that must be in the objective, with whatever weight.
    """

    unit: ClassVar[str]
    default_weight: ClassVar[float] = 1.0
    example: ClassVar[Mapping[str, Any]] = {}
    regularizes_posterior: ClassVar[bool] = False
    required_terms: ClassVar[tuple[str, ...]] = ()
    samples_per_image: int | None = None

    def bind(self, latent_shape: Shape, image_shape: Shape) -> None:
        """Prepares the term for a model, by the shapes of its latent and of its images; called before the training."""

    @abstractmethod
    def forward(self, inputs: LossInputs) -> PerImage:
        """The value of each image, (batch,), in `unit`.

        Raises:
            ConfigError: the model or the data lacks what the term needs.
            ShapeError: the images are too small for the term.
        """

    def measure(self, inputs: LossInputs) -> Mapping[str, PerImage]:
        """Metrics of each image by name, (batch,), that the log of the validation lists beside the term."""
        return {}

    @property
    def critic(self) -> Critic | None:
        """The network that trains beside the model; None without one.

        The term creates it, in `bind` at the latest, with deterministic weights, and keeps it in a tuple, so that it is
        no registered submodule.
        """
        return None


_CriticT = TypeVar("_CriticT", bound=Critic)


class CriticTerm(Term, Generic[_CriticT]):
    """A term with a network that trains beside the model; `bind` creates it by `hold`."""

    def __init__(self) -> None:
        super().__init__()
        self._critic: tuple[_CriticT, ...] = ()

    @property
    def critic(self) -> _CriticT | None:
        """The network, once the term is bound."""
        return next(iter(self._critic), None)

    @property
    def bound_critic(self) -> _CriticT:
        """The network.

        Raises:
            ConfigError: the term is not bound.
        """
        if not self._critic:
            raise ConfigError(_UNBOUND)
        return self._critic[0]

    def hold(self, critic: _CriticT) -> None:
        """Sets the network, which is no registered submodule of the term."""
        self._critic = (critic,)
