"""Entropy of code assignments."""

from __future__ import annotations

from typing import ClassVar

from convae.core.types import PerImage
from convae.objective.terms.base import LossInputs, Term


class Entropy(Term):
    """Entropy of the code assignments of each vector, less that of their mean over the batch (Yu et al. 2023).

    arXiv:2310.05737. Summed over the vectors of an image. Small where each assignment is certain and all codes are
    used evenly; negative then. For the quantizers `lfq`, `bsq` and `ibq`, whose options set temperature and balance.
    """

    unit: ClassVar = "nats"
    default_weight: ClassVar = 0.1

    def forward(self, inputs: LossInputs) -> PerImage:
        """The difference of the entropies for each image."""
        return inputs.reported("entropy", "no quantizer of the model has it. Leave it out, or use lfq, bsq or ibq")
