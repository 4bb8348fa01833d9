"""Distance in features of a network."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

from convae.core.types import PerImage
from convae.data import Split
from convae.evaluation.metrics.base import ImageMetric
from convae.features.networks.base import FeatureNetwork, NetworkEntry, build_feature_network
from convae.latents import EvalBatch
from convae.model.vae import VAE


class FeatureDistance(ImageMetric):
    """Distance of image and reconstruction in features of a named network, such as `efficientnet-lite0`.

    The name of the network is part of the metric's. For LPIPS, see `lpips`.

    Args:
        network: the feature network; without one, the metric is left out.
    """

    unit: ClassVar = "distance"
    better: ClassVar = "lower"
    needs_whole_images: ClassVar = True
    needs: ClassVar = "a network, such as feature-distance.network=efficientnet-lite0"

    example: ClassVar = {"network": "efficientnet-lite0"}

    def __init__(self, *, network: NetworkEntry | None = None) -> None:
        self.network = network

    def applies(self, model: VAE, split: Split) -> bool:
        """Whether a network is given."""
        return self.network is not None

    def display_name(self, name: str) -> str:
        """With the name of the network."""
        return f"{name}-{self._features.name}"

    def protocol(self) -> dict[str, Any]:
        """The network by its SHA-256."""
        return {"network": self._features.name, "sha256": self._features.sha256, "images": self._features.preprocessing}

    @cached_property
    def _features(self) -> FeatureNetwork:
        assert self.network is not None  # the metric applies to nothing else
        return build_feature_network(self.network)

    def rows(self, batch: EvalBatch) -> PerImage:
        """The distance of each image and its reconstruction from the posterior mean."""
        return self._features.to(batch.images.device).distance(batch.images, batch.reconstruction.mean)
