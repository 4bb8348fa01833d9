"""Feature networks, by whose features sets of images are compared; their name is part of the metric's name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from convae.core.types import Images
from convae.model.artifact import fingerprint
from convae.model.mode import evaluation_mode
from convae.model.vae import VAE


@runtime_checkable
class Features(Protocol):
    """A network that turns images into vectors."""

    @property
    def name(self) -> str:
        """Suffix of metric names."""

    @property
    def sha256(self) -> str:
        """Of its structure and weights."""

    @property
    def preparation(self) -> str:
        """How images are preprocessed."""

    @property
    def known_as(self) -> Mapping[str, str]:
        """Established names of metrics with these features, such as `fid`, by the metric's name."""

    def __call__(self, images: Images) -> Tensor:
        """(batch, feature)."""


class EncoderFeatures:
    """The posterior mean of a trained model, flattened.

    Args:
        model: is used in evaluation mode, and left in the mode that it is in.
    """

    def __init__(self, model: VAE) -> None:
        self._model = model
        self.name = model.name
        self.sha256 = fingerprint(model)
        self.preparation = "as they are"
        self.known_as: dict[str, str] = {}

    def __call__(self, images: Images) -> Float[Tensor, "batch feature"]:
        """The mean of each image's posterior.

        Raises:
            ShapeError: the images do not have the model's input shape.
        """
        with evaluation_mode(self._model):
            return self._model.encode(images).mean.flatten(1)
