"""Evidence lower bound."""

from __future__ import annotations

from typing import ClassVar

from convae.core.types import PerImage
from convae.evaluation.metrics.base import ImageMetric, Passes


class ELBO(ImageMetric):
    """log p(x | z) − KL with one drawn latent: a lower bound on log p(x), nats per image, without any β."""

    unit: ClassVar = "nats"
    better: ClassVar = "higher"

    def rows(self, passes: Passes) -> PerImage:
        """The bound for each image."""
        return passes.bound
