"""L1 penalty on the latent."""

from __future__ import annotations

from typing import ClassVar

from convae.core.types import PerImage
from convae.objective.terms.base import LossInputs, Term


class Sparse(Term):
    """L1 penalty on the posterior mean, averaged over the latent: favors sparse latents."""

    unit: ClassVar = "latent units"

    def forward(self, inputs: LossInputs) -> PerImage:
        """The mean absolute latent value of each image."""
        return inputs.output.posterior.mean.abs().flatten(1).mean(1)
