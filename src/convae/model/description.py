"""What describes a model: its input, encoder, bottleneck, decoder and likelihood."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from convae.core.arguments import ImageShape, Named
from convae.core.config import Config

MAX_PARAMETERS = 2_000_000_000
"""A larger model is taken for a mistake, unless its description says that it is meant."""
MostParameters = Annotated[int, Field(gt=0)]
Name = Annotated[str, Field(min_length=1)]


class Spec(Config):
    """A model in its one stored form.

    Attributes:
        name: what the model is called.
        input: channels, then the sizes of one, two or three spatial axes.
        encoder: list of layers from the image to the features.
        bottleneck: what makes a latent of the features; unless told otherwise one half of their channels is the
            mean and the other the log-variance.
        decoder: list of layers from the latent to the raw values of the likelihood.
        likelihood: what the raw values mean.
        classifier: list of layers from the latent to a value for each class; None for a model that names no classes.
        max_parameters: the largest number of parameters that is not taken for a mistake, and refused before a byte
            of it is allocated.
        condition: arguments of the condition, such as `{classes: 10}`, by which the label of an image enters encoder
            and decoder; None for a model that is not conditional.
    """

    name: Name = "vae"
    input: ImageShape
    encoder: list[Any]
    bottleneck: Named = Field({"gaussian": {"head": False}}, validate_default=True)
    decoder: list[Any]
    likelihood: Named = "bernoulli"
    classifier: list[Any] | None = None
    max_parameters: MostParameters = MAX_PARAMETERS
    condition: dict[str, Any] | None = None
