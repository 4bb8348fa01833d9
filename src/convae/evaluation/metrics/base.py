"""What a metric is: a figure for each image, whose mean over a split is reported."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from convae.core.types import Images, PerImage
from convae.model.vae import VAE, Output


@dataclass(frozen=True)
class Passes:
    """What the metrics of a batch are computed from.

    Attributes:
        images: (batch, channel, *sizes) in [0, 1].
        drawn: the pass whose latent was drawn from the posterior: what the ELBO is an expectation over.
        expected: the pass whose latent is the posterior's mean: what a user gets as the reconstruction.
    """

    images: Images
    drawn: Output
    expected: Output


class Metric(ABC):
    """One named figure. Configuration is keyword-only.

    `better` says in which direction it improves; None where neither is better.
    """

    unit: ClassVar[str]
    better: ClassVar[Literal["higher", "lower"] | None]

    def applies(self, model: VAE) -> bool:
        """Whether the figure means something for this model."""
        return True

    @abstractmethod
    def per_image(self, passes: Passes) -> PerImage:
        """The figure of each image, (batch,)."""
