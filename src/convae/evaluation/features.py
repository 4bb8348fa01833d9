"""Feature networks for metrics of samples."""

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
    """A feature network: images to feature vectors."""

    @property
    def name(self) -> str:
        """Suffix of metric names."""

    @property
    def sha256(self) -> str:
        """SHA-256 of structure and weights."""

    @property
    def preprocessing(self) -> str:
        """Description of the preprocessing of images, for protocols."""

    @property
    def metric_aliases(self) -> Mapping[str, str]:
        """Established names of metrics with these features, such as `fid`, by registered name."""

    def __call__(self, images: Images) -> Tensor:
        """Features, (batch, feature), of images in [0, 1], (batch, channel, *sizes)."""


class EncoderFeatures:
    """The flattened posterior mean of a trained model.

    Args:
        model: the model; its training mode does not change.
    """

    def __init__(self, model: VAE) -> None:
        self._model = model
        self.name = model.name
        self.sha256 = fingerprint(model)
        self.preprocessing = "none"
        self.metric_aliases: dict[str, str] = {}

    def __call__(self, images: Images) -> Float[Tensor, "batch feature"]:
        """The posterior mean of each image.

        Raises:
            ShapeError: the images do not have the model's input shape.
        """
        with evaluation_mode(self._model):
            return self._model.encode(images).mean.flatten(1)
