"""The encoder of a trained model."""

from __future__ import annotations

from typing import Annotated, ClassVar

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from convae.core.arguments import NonNegative
from convae.core.errors import ConfigError, ShapeError
from convae.core.names import shape_text
from convae.core.types import Images
from convae.features.networks.base import FeatureNetwork
from convae.model.artifact import load
from convae.model.fingerprint import fingerprint
from convae.model.mode import evaluation_mode
from convae.model.pretrained import ModelPath
from convae.model.vae import VAE


class Encoder(FeatureNetwork):
    """The layers of the encoder of a trained model, such as one of the same images.

    The vector of an image is its posterior mean.

    Args:
        model: path of the saved model, an artifact or a run; the name of a pretrained model; or a loaded model, which
            stays in its mode.
        layers: indices of the encoder layers whose features are compared, from 0; by default the last layer at each
            spatial size, and the image itself if no layer keeps its size.
    """

    example: ClassVar = {"model": "runs/digits"}

    def __init__(
        self, *, model: ModelPath | VAE, layers: Annotated[list[NonNegative], Field(min_length=1)] | None = None
    ) -> None:
        super().__init__()
        where, model = (f"'{model.name}'", model) if isinstance(model, VAE) else (str(model), load(model))
        encoder = model.encoder
        if layers is not None and (not isinstance(encoder, nn.Sequential) or max(layers) >= len(encoder)):
            count = len(encoder) if isinstance(encoder, nn.Sequential) else 0
            raise ConfigError(f"the encoder of {where} has layers 0 to {count - 1}, not {max(layers)}")
        self.model, self.where, self.layers = model, where, layers
        self.name, self.sha256 = model.name, fingerprint(model)

    def forward(self, images: Images) -> Float[Tensor, "batch feature"]:
        """The posterior mean of each image, flattened.

        Raises:
            ShapeError: the images do not have the model's input shape.
        """
        with evaluation_mode(self.model):
            return self.model.encode(images).mean.flatten(1)

    def maps(self, images: Images) -> list[Tensor]:
        """Features of images in the compared layers."""
        encoder = self.model.encoder
        if not isinstance(encoder, nn.Sequential):
            raise ConfigError(f"the encoder of {self.where} is no list of layers")
        x, axes = images, images.ndim
        features: dict[object, Tensor] = {}
        for place, layer in enumerate(encoder):
            try:
                x = layer(x)
            except RuntimeError as error:
                shape = shape_text(images.shape[1:])
                raise ShapeError(f"the encoder of {self.where} does not accept images {shape}") from error
            if self.layers is None and x.ndim == axes:
                features[x.shape[2:]] = x
            elif self.layers is not None and place in self.layers:
                features[place] = x
            if self.layers is not None and place == max(self.layers):
                break
        if not features:
            raise ConfigError(f"the encoder of {self.where} has no features with spatial axes. Set layers")
        if self.layers is None:
            features.setdefault(images.shape[2:], images)
        return list(features.values())
