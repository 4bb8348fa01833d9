"""The shapes that travel between the rooms, and what each room may expect of another's results.

One dimension legend for the whole package: `batch channel *sizes` for images (float in [0, 1]), `batch *latent` for
latents (a vector is `latent`, a map is `latent *grid`), `batch` for figures per image. The annotations are checked
by beartype under pytest and cost nothing otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, SupportsIndex, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from convae.core.random import Counted

Shape = tuple[int, ...]
"""Channels, then the sizes of the spatial axes; without the batch."""

Images = Float[Tensor, "batch channel *sizes"]
Latents = Float[Tensor, "batch *latent"]
PerImage = Float[Tensor, " batch"]
Generators = torch.Generator | Sequence[torch.Generator] | Counted
"""What latents are drawn from: one generator for a batch; or one for each image, whose latent then does not depend on
what it is batched with; or numbers counted by the image's place in a batch of which these images may be a part."""

if TYPE_CHECKING:
    AnyImages = Tensor
    AnyLatents = Tensor
    AnyCodes = Tensor
    AnyLabels = Tensor
    AnyCount = SupportsIndex
    AnyGenerators = Generators
else:
    # What a user gives to a model: it says itself what it cannot take, so nothing else has to refuse it before.
    AnyImages = AnyLatents = AnyCodes = AnyLabels = AnyCount = AnyGenerators = Any


@runtime_checkable
class PosteriorLike(Protocol):
    """What an encoder believes of the latent of each image."""

    @property
    def mean(self) -> Tensor:
        """(batch, *latent)."""

    @property
    def logvar(self) -> Tensor:
        """(batch, *latent)."""

    def sample(self, generator: Generators | None = None) -> Tensor:
        """A latent drawn for each image."""

    def kl(self) -> Tensor:
        """(batch,), nats."""


@runtime_checkable
class FactorisedLike(Protocol):
    """What a posterior gives beside, whose latent values are independent of each other."""

    def kl_values(self) -> Tensor:
        """(batch, *latent), nats: the parts whose sum over the latent is `kl`."""


@runtime_checkable
class CodedLike(Protocol):
    """What a posterior gives beside, whose latent is made of entries of a code book."""

    @property
    def codes(self) -> Tensor:
        """(batch, *grid), the number of the entry at each place of the latent."""

    @property
    def entries(self) -> int:
        """How many the code book has."""


@runtime_checkable
class LikelihoodLike(Protocol):
    """What a decoder believes of the image of each latent."""

    @property
    def mean(self) -> Tensor:
        """(batch, channel, *sizes) in [0, 1]."""

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """An image drawn for each latent, in [0, 1]."""

    def log_prob(self, x: Tensor) -> Tensor:
        """(batch,), nats."""


@runtime_checkable
class OutputLike(Protocol):
    """What one pass through a model gives to the objective and the metrics."""

    @property
    def posterior(self) -> PosteriorLike:
        """From the encoder and the bottleneck."""

    @property
    def latent(self) -> Tensor:
        """What was decoded."""

    @property
    def likelihood(self) -> LikelihoodLike:
        """From the decoder."""

    @property
    def terms(self) -> dict[str, Tensor]:
        """The bottleneck's own terms, (batch,) each, unweighted."""


@runtime_checkable
class ClassifiedLike(Protocol):
    """What a pass gives beside, through a model with a classifier on its latent."""

    @property
    def logits(self) -> Tensor | None:
        """(batch, class), log-probabilities up to a constant; None from a model without a classifier."""


@runtime_checkable
class BatchLike(Protocol):
    """The part of the data that a step sees."""

    @property
    def images(self) -> Tensor:
        """(batch, channel, *sizes) in [0, 1]."""

    @property
    def labels(self) -> Tensor | None:
        """(batch,) class numbers, -1 where one is missing; None where the data has none."""


@runtime_checkable
class PartLike(Protocol):
    """What a batch says beside that is a part of a larger one: shared by several processes, or taken in turns."""

    @property
    def labelled(self) -> float | None:
        """Share of the whole batch's images that have a label; None where only the batch's own labels are known."""
