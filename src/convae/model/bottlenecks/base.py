"""Bottleneck interface: encoder features to the latent, its posterior and its loss terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from convae.core.arguments import Named
from convae.core.context import Context, LatentModule
from convae.core.names import shape_text
from convae.core.posterior import Posterior
from convae.core.types import Shape

LATENT = "latent"
"""Name of the latent in a model with one latent."""


class Bottleneck(LatentModule):
    """Maps encoder features to the latent.

    The constructor takes the shape of the features, and its configuration as keyword-only arguments; it initializes
    its parameters and sets `latent_shape`.

    Attributes:
        latent_shape: shape of the latent that the decoder gets, without the batch.
        default_prior: name of the default prior.
        required_terms: loss terms that an objective must contain to train it.
        built_for: shape of the features for which it was built from a description; None for other objects.
        self_updated_parameters: names of parameters that the forward pass updates in training.
    """

    example: ClassVar[Mapping[str, Any]] = {}
    default_prior: ClassVar[Named] = "standard-normal"
    required_terms: tuple[str, ...] = ()
    self_updated_parameters: tuple[str, ...] = ()
    built_for: Shape | None = None
    stream = LATENT

    def extra_repr(self) -> str:
        """The latent's shape, for `print(model)`."""
        return f"latent {shape_text(self.latent_shape)}"

    def posterior(self, features: Tensor) -> Posterior:
        """Approximate posterior q(z | x) of features, (batch, *features), in float32 or wider."""
        raise NotImplementedError

    def forward(self, x: Tensor, context: Context | None = None) -> Tensor:
        """Features, (batch, *features), to latents, (batch, *latent); reports posterior and loss terms."""
        context = context or Context()
        return context.draw_latent(self.stream, self.posterior(x))

    def head_output(self, features: Tensor) -> Tensor:
        """What the latent depends on, (batch, …): the output of the head, such as mean and log-variance.

        By default the features, (batch, *features), themselves.
        """
        return features

    def from_head(self, values: Tensor, context: Context | None = None) -> Tensor:
        """The same as `forward`, from the result of `head_output`."""
        latent: Tensor = self(values, context)
        return latent

    def reset(self, generator: torch.Generator | None = None) -> None:
        """Initializes parameters and buffers, with a CPU generator."""
        raise NotImplementedError
