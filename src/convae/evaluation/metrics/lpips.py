"""Learned perceptual similarity."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional as F

from convae.core.arguments import Positive
from convae.core.errors import ConfigError
from convae.core.types import PerImage
from convae.data import Split
from convae.evaluation.metrics.base import ImageMetric
from convae.evaluation.perceptual import MIN_SIZE, PerceptualDistance
from convae.latents import EvalBatch
from convae.model.vae import VAE


class LPIPS(ImageMetric):
    """Learned perceptual image patch similarity of image and reconstruction (Zhang et al. 2018, arXiv:1801.03924).

    The weights come from two files that are read without running anything in them. The metric is called `lpips`
    if they are the published ones, and `lpips-unverified` otherwise; the protocol has their SHA-256.
    A gray image counts as one of three equal channels.

    Args:
        backbone: torchvision's `alexnet-owt-7be5be79.pth` or `vgg16-397923af.pth`.
        heads: `alex.pth` or `vgg.pth` of LPIPS 0.1, as in the packages lpips and torchmetrics.
        size: pixels on each side that images are enlarged to first, bilinearly; AlexNet needs 31, VGG-16 needs 16.
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
        """Whether weights are given, and the images have colors.

        Raises:
            ConfigError: the images are too small for the network.
            ArtifactError: the files hold other weights.
        """
        channels, *sizes = model.input_shape
        if self.backbone is None or self.heads is None or len(sizes) != 2 or channels not in (1, 3):
            return False
        least = MIN_SIZE[self._distance.network]
        if min([self.size] if self.size else sizes) < least:
            raise ConfigError(
                f"metric 'lpips' needs {least} pixels on each side with this network: give lpips.size={2 * least}"
            )
        return True

    def display_name(self, name: str) -> str:
        """Whether the weights are the published ones shows in the name."""
        return name if self._distance.published else f"{name}-unverified"

    def protocol(self) -> dict[str, Any]:
        """The files by their SHA-256, in place of where they lie."""
        return {**self._distance.files, "network": self._distance.network, "size": self.size}

    @cached_property
    def _distance(self) -> PerceptualDistance:
        assert self.backbone is not None  # the metric applies to nothing else
        assert self.heads is not None
        return PerceptualDistance(self.backbone, self.heads)

    def rows(self, batch: EvalBatch) -> PerImage:
        """The distance of each image and its reconstruction from the posterior's mean."""
        return self._distance(self._colors(batch.images), self._colors(batch.reconstruction.mean))

    def _colors(self, images: Tensor) -> Tensor:
        images = images.expand(-1, 3, -1, -1)
        if self.size is None:
            return images
        return F.interpolate(images, size=(self.size, self.size), mode="bilinear", align_corners=False)
