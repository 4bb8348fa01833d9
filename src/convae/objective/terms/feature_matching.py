"""Distance of reconstructions in features of a discriminator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from convae.core.errors import ConfigError
from convae.core.precision import at_least_float32
from convae.core.types import PerImage
from convae.objective.terms._image_critic import ImageCritic, as_constant
from convae.objective.terms.base import LossInputs, Term, missing_term


class FeatureMatching(Term):
    """Feature matching: distance of image and reconstruction in features of the discriminator of `adversarial`.

    With `error: squared`, the learned similarity of the VAE/GAN (Larsen et al. 2016, arXiv:1512.09300), half the sum of
    squared differences: −log p of the features of the image, with a unit Gaussian around those of the reconstruction,
    without its constant, in nats. With `error: absolute`, the feature matching loss of pix2pixHD (Wang et al. 2018,
    arXiv:1711.11585) and HiFi-GAN (Kong et al. 2020, arXiv:2010.05646): the mean of absolute differences over each
    layer, then over layers and scales.

    The term needs `adversarial`, with whatever weight: with 0, its discriminator is trained and gives the features
    only. It trains encoder and decoder, and not the discriminator. With `augment` of `adversarial`, image and
    reconstruction have the same augmentation.

    Args:
        error: `squared`, or `absolute`.
        layers: hidden layers of each discriminator that are compared, from 0 for the first, or from −1 for the last
            backward; None for all.
    """

    unit: ClassVar = "feature distance"
    required_terms: ClassVar = ("adversarial",)

    def __init__(self, *, error: Literal["squared", "absolute"] = "squared", layers: list[int] | None = None) -> None:
        super().__init__()
        if layers is not None and not layers:
            raise ConfigError("layers is empty. Name at least one layer, or leave it out for all")
        self.error, self.layers = error, layers

    def forward(self, inputs: LossInputs) -> PerImage:
        """The distance of each image; without a gradient for the discriminator.

        Raises:
            ConfigError: the objective has no term `adversarial`, or its discriminator lacks a layer or defines no
                features.
        """
        critic = inputs.critics.get("adversarial")
        if not isinstance(critic, ImageCritic):
            raise ConfigError(missing_term("adversarial"))
        has_gradient = inputs.weight != 0 and torch.is_grad_enabled()
        with as_constant(critic), torch.set_grad_enabled(has_gradient):
            x, y = critic.augmented_alike([inputs.images, inputs.reconstruction], inputs, "features")
            with torch.no_grad():
                real = critic.features(x)
            fake = critic.features(y)
            differences = [x - y for x, y in zip(self._chosen(real), self._chosen(fake), strict=True)]
        if self.error == "squared":
            return torch.stack([0.5 * each.square().sum(1) for each in differences]).sum(0)
        return torch.stack([each.abs().mean(1) for each in differences]).mean(0)

    def _chosen(self, scales: Sequence[Sequence[Tensor]]) -> Iterator[Tensor]:
        """(batch, value) of each compared layer, in float32 or wider."""
        for layers in scales:
            numbers = range(len(layers)) if self.layers is None else self.layers
            for number in numbers:
                if not -len(layers) <= number < len(layers):
                    raise ConfigError(
                        f"layers: {number} is none of the {len(layers)} hidden layers of the discriminator. "
                        f"Set {-len(layers)} to {len(layers) - 1}"
                    )
                yield at_least_float32(layers[number]).flatten(1)
