"""How badly the decoder's belief explains the image."""

from __future__ import annotations

from typing import ClassVar

from convae.core.types import PerImage
from convae.objective.terms.base import Pass, Term


class Reconstruction(Term):
    """−log p(x | z) under the model's likelihood, summed over the image's values, nats per image."""

    unit: ClassVar = "nats"

    def forward(self, given: Pass) -> PerImage:
        """The negative log-likelihood of each image."""
        return -given.output.likelihood.log_prob(given.images)
