"""Squared norm of the latent."""

from __future__ import annotations

from typing import ClassVar

from convae.core.errors import ConfigError
from convae.core.types import PerImage
from convae.objective.terms.base import LossInputs, Term


class LatentNorm(Term):
    """Half the squared norm of the latent, summed over its values: the prior term of RAE (Ghosh et al. 2020).

    arXiv:1903.12436. With `squared-error` and a deterministic bottleneck it is RAE; a prior is fitted afterwards
    (`convae prior`). The penalties of its decoder are `training.optimizer.weight_decay` (RAE-L2) and `decoder-gradient`
    (RAE-GP); the layer `spectral-norm` around its layers makes RAE-SN.
    """

    unit: ClassVar = "squared latent units"

    def forward(self, inputs: LossInputs) -> PerImage:
        """Half the squared norm of the latent of each image."""
        if inputs.output.posterior.is_spherical:
            raise ConfigError("the norm of latents on a sphere is constant. Remove this term")
        return 0.5 * inputs.output.latent.square().flatten(1).sum(1)
