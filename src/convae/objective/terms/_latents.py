"""The latents that terms take, and what they require of them."""

from __future__ import annotations

import math

from torch import Tensor

from convae.core.errors import ConfigError
from convae.core.joint_posterior import JointPosterior
from convae.core.names import shape_text
from convae.core.types import Shape
from convae.objective.terms.base import NO_CODES, LossInputs


def latents_of(inputs: LossInputs) -> Tensor:
    """(row, value): the latents.

    Raises:
        ConfigError: they are codes, or several.
    """
    posterior = inputs.output.posterior
    if isinstance(posterior, JointPosterior):
        raise ConfigError("needs a model with one latent. Use kl")
    if posterior.is_discrete:
        raise ConfigError(NO_CODES)
    return inputs.output.latent.flatten(1)


def require_latent_map(shape: Shape, positions: int = 1) -> None:
    """Checks that a latent is a map of height and width.

    Args:
        shape: of the latent.
        positions: smallest number of positions.

    Raises:
        ConfigError: it is not, or has fewer positions.
    """
    if len(shape) != 3 or math.prod(shape[1:]) < positions:
        raise ConfigError(
            f"needs a model with one latent map of height and width, got the latent {shape_text(shape)}. "
            "Use a preset with a map, such as tokenizer-tiny-f4, or remove this term"
        )
