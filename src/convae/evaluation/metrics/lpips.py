"""Learned perceptual similarity."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from convae.core.arguments import Positive
from convae.core.types import PerImage
from convae.data import Split
from convae.evaluation.metrics.base import ImageMetric
from convae.features.networks import lpips
from convae.latents import EvalBatch
from convae.model.vae import VAE


class LPIPS(ImageMetric):
    """Learned perceptual image patch similarity of image and reconstruction (Zhang et al. 2018, arXiv:1801.03924).

    The protocol has the SHA-256 of the weights. With weights other than the published ones, the metric is called
    `lpips-unverified`. Gray images get three equal channels.

    Args:
        backbone: `alexnet-owt-7be5be79.pth` or `vgg16-397923af.pth` of torchvision.
        heads: `alex.pth` or `vgg.pth` of LPIPS 0.1, as in the packages lpips and torchmetrics.
        size: image size after bilinear resizing, in pixels; at least 31 for AlexNet and 16 for VGG-16. By default
            images are not resized.
    """

    needs_whole_images: ClassVar = True
    unit: ClassVar = "distance"
    better: ClassVar = "lower"
    needs: ClassVar = "images with 1 or 3 channels, and files: lpips.backbone=… lpips.heads=…"

    def __init__(
        self, *, backbone: Path | None = None, heads: Path | None = None, size: Positive | None = None
    ) -> None:
        self.backbone, self.heads, self.size = backbone, heads, size

    def applies(self, model: VAE, split: Split) -> bool:
        """Whether weights are given, and images are two-dimensional with 1 or 3 channels."""
        channels, *sizes = model.input_shape
        return self.backbone is not None and self.heads is not None and len(sizes) == 2 and channels in (1, 3)

    def display_name(self, name: str) -> str:
        """The name, with a suffix for other weights than the published ones."""
        return self._network.name

    def protocol(self) -> dict[str, Any]:
        """Names and SHA-256 of the files instead of their paths."""
        return {**self._network.files, "network": self._network.network, "size": self.size}

    @cached_property
    def _network(self) -> lpips.LPIPS:
        assert self.backbone is not None  # `applies` requires them
        assert self.heads is not None
        return lpips.LPIPS(backbone=self.backbone, heads=self.heads, size=self.size).eval()

    def rows(self, batch: EvalBatch) -> PerImage:
        """The distance of each image and its reconstruction from the posterior mean."""
        return self._network.to(batch.images.device).distance(batch.images, batch.reconstruction.mean)
