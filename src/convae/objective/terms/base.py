"""What a term is: a cost of each image, in a stated unit, unweighted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Int64
from torch import Tensor, nn

from convae.core.errors import ConfigError
from convae.core.output import Output
from convae.core.posterior import CodePosterior, Posterior
from convae.core.types import Images, PerImage
from convae.objective.schedules.base import Moment


@dataclass(frozen=True)
class LossInputs:
    """What a term judges: a batch that went through the model.

    Attributes:
        images: (batch, channel, *sizes) in [0, 1].
        labels: (batch,) class numbers, -1 where one is missing; None where the data has none.
        output: what the model made of the images.
        moment: where training is, for terms that change with it.
        labeled_fraction: where the images are a slice of a larger batch, the fraction of its images that have a label.
    """

    images: Images
    labels: Int64[Tensor, " batch"] | None
    output: Output
    moment: Moment
    labeled_fraction: float | None = None

    @property
    def reconstruction(self) -> Images:
        """The expected image, in [0, 1]: what a user gets."""
        return self.output.likelihood.mean

    @property
    def posterior(self) -> Posterior:
        """What the encoder believes of the latent, where its divergence from the prior depends on the image.

        Raises:
            ConfigError: it is made of entries of a code book, whose divergence is the same for all images.
        """
        if isinstance(self.output.posterior, CodePosterior):
            raise ConfigError(
                "the divergence of a code book is the same for all images, so nothing can lower it: give commitment"
            )
        return self.output.posterior

    def reported(self, name: str, lack: str) -> PerImage:
        """A term of the bottleneck's own, of each image.

        Raises:
            ConfigError: this bottleneck has none of that name; `lack` says why.
        """
        if name not in self.output.terms:
            raise ConfigError(lack)
        return self.output.terms[name]


class Term(nn.Module, ABC):
    """One named cost of an image; smaller is better. Configuration is keyword-only.

    `unit` is what the figure is measured in; a weight turns it into nats, the unit of the total. A term that
    compares with what a saved model sees names in `network` the argument that holds the model's path: the network
    is loaded by whoever builds the objective, and is the constructor's one positional argument.
    """

    unit: ClassVar[str]
    loads: ClassVar[str | None] = None
    example: ClassVar[Mapping[str, Any]] = {}

    @abstractmethod
    def forward(self, inputs: LossInputs) -> PerImage:
        """The cost of each image, (batch,), in `unit`.

        Raises:
            ConfigError: the model or the data has not what the term needs.
            ShapeError: the images have not the size that the term needs.
        """

    @property
    def critic(self) -> nn.Module | None:
        """A module that trains against the model, such as a discriminator; None for a term that has none.

        The trainer gives it an optimizer and a step of its own, after that of the model, and saves it in
        checkpoints. The term makes it, with weights that are the same every time, and keeps it in a tuple, so that it
        is none of the term's own modules.
        """
        return None

    def critic_loss(self, inputs: LossInputs) -> PerImage:
        """What `critic` minimizes, (batch,); no gradient reaches the model.

        Raises:
            NotImplementedError: the term has no critic.
        """
        raise NotImplementedError(f"{type(self).__name__} has no critic")
