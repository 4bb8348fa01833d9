"""Negative log-likelihood."""

from __future__ import annotations

from typing import ClassVar

from convae.core.types import PerImage
from convae.objective.terms.base import LossInputs, Term


class Reconstruction(Term):
    """Negative log-likelihood, −log p(x | z), summed over the observed values, nats per image."""

    unit: ClassVar = "nats"

    def forward(self, inputs: LossInputs) -> PerImage:
        """The negative log-likelihood of each image."""
        return -inputs.output.likelihood.log_prob(inputs.values, inputs.value_weights)
