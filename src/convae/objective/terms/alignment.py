"""Alignment of latents with features of a frozen network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from convae.core.arguments import PositiveFloat
from convae.core.errors import ConfigError
from convae.core.precision import at_least_float32, full_precision
from convae.core.random import torch_generator
from convae.core.types import Images, PerImage, Shape
from convae.features.networks.base import FeatureNetwork, NetworkEntry, build_feature_network
from convae.objective.terms._balance import BalancedCritic
from convae.objective.terms._latent_critic import Beta
from convae.objective.terms._latents import require_latent_map
from convae.objective.terms.base import CriticTerm, LossInputs

Margin = Annotated[float, Field(ge=0, le=2)]
"""A difference of cosines that costs nothing."""


class FeatureProjection(BalancedCritic):
    """A linear map from the channels of the latent to those of the features, trained with the loss of the term.

    Args:
        term: the term.
        latent: channels of the latent.
        features: channels of the features.
        optimizer: options of its optimizer.
        max_ratio: largest ratio of gradient norms; None if the gradient of the term is not multiplied.
    """

    metric_units: ClassVar[Mapping[str, str]] = {"ratio": "ratio of gradient norms"}

    def __init__(
        self, term: Alignment, latent: int, features: int, optimizer: dict[str, Any], max_ratio: float | None
    ) -> None:
        super().__init__(max_ratio)
        self.optimizer = optimizer
        self._term = (term,)  # in a tuple, as the feature network is no part of it
        values = torch.randn(features, latent, generator=torch_generator(0, "projection"))
        self.weight = nn.Parameter(values / math.sqrt(latent))

    def loss(self, inputs: LossInputs) -> PerImage:
        """The value of the term, without gradient for the model."""
        (term,) = self._term
        return term.value(inputs.output.latent.detach(), self.weight, term.features(inputs.images))

    def metrics(self) -> Mapping[str, Tensor]:
        """The adaptive factor."""
        return {} if self.max_ratio is None else {"ratio": self.ratio}


class Alignment(CriticTerm[FeatureProjection]):
    """Distance of a latent map from features of a frozen network at the same places, in cosines.

    VA-VAE (Yao et al. 2025, arXiv:2501.01423): wide latents that keep the structure of the features, on which diffusion
    models train faster. The latent z at each place is projected to the width of the features f, W z, and

        mean over places relu(1 − m₁ − cos(W zᵢ, fᵢ))  +  mean over pairs relu(|cos(W zᵢ, W zⱼ) − cos(fᵢ, fⱼ)| − m₂)

    is the sum of the marginal cosine similarity loss and the marginal distance matrix similarity loss. As in the code
    of the authors, both parts compare projected latents. The projection has its own optimizer, a step after that of the
    model on the same images, and is in checkpoints. Memory grows with the square of the number of places.

    With `adaptive`, weight 1 makes the gradient at the latent as large as that of all other terms through the decoder:
    it is multiplied by the ratio of their norms, a running mean over about ten steps, at most `max_ratio`. It is 0 in
    the first step of the term. The authors use weight 0.1. The value in the log is without this factor.

    Args:
        network: the feature network.
        layer: number of its map, from 0; negative from the last. By default the last that is at least as large as the
            latent map, else the largest. Features are interpolated bilinearly to the size of the latent map.
        cosine_margin: m₁; values below it cost nothing.
        distance_margin: m₂.
        adaptive: whether the gradient is relative to that of all other terms.
        max_ratio: largest factor of `adaptive`.
        lr: learning rate of the projection, on the schedule of the model's.
        betas: of its Adam.
    """

    unit: ClassVar = "cosine distance"
    example: ClassVar = {"network": "efficientnet-lite0", "adaptive": False}

    def __init__(
        self,
        *,
        network: NetworkEntry,
        layer: int | None = None,
        cosine_margin: Margin = 0.5,
        distance_margin: Margin = 0.25,
        adaptive: bool = True,
        max_ratio: PositiveFloat = 1e8,
        lr: PositiveFloat = 1e-3,
        betas: tuple[Beta, Beta] = (0.5, 0.9),
    ) -> None:
        super().__init__()
        self.network: FeatureNetwork = build_feature_network(network)
        self.layer, self.margins = layer, (cosine_margin, distance_margin)
        self.max_ratio = max_ratio if adaptive else None
        self.optimizer: dict[str, Any] = {"name": {"adam": {"betas": betas}}, "lr": lr, "weight_decay": 0.0}
        self._chosen = 0
        self._latest: tuple[Images, Tensor] | None = None

    def bind(self, latent_shape: Shape, image_shape: Shape) -> None:
        """Chooses the map of features, and creates the projection.

        Raises:
            ConfigError: the latent is no map of height and width, or the network has no such map.
            ShapeError: the network does not accept the images.
        """
        require_latent_map(latent_shape)
        like = next((each for each in self.network.state_dict().values() if each.is_floating_point()), torch.zeros(()))
        with torch.no_grad():
            maps = self.network.eval().maps(like.new_zeros(1, *image_shape))
        self._chosen = _chosen_map(maps, latent_shape, self.layer)
        sizes = (latent_shape[0], maps[self._chosen].shape[1])
        if self.critic is None or tuple(self.critic.weight.shape[::-1]) != sizes:
            self.hold(FeatureProjection(self, *sizes, self.optimizer, self.max_ratio))

    def forward(self, inputs: LossInputs) -> PerImage:
        """The value of each image; without a gradient for the projection.

        Raises:
            ConfigError: the term is not bound.
        """
        critic, images = self.bound_critic, inputs.images
        features = self.features(images)
        self._latest = (images, features) if torch.is_grad_enabled() else None  # for the step of the projection
        return self.value(critic.balanced(inputs.output.latent, inputs.weight), critic.weight.detach(), features)

    def features(self, images: Images) -> Tensor:
        """The map of features of images, (batch, feature, height, width); reused for the projection's step."""
        if self._latest is not None and self._latest[0] is images:
            found, self._latest = self._latest[1], None
            return found
        with torch.no_grad():
            return self.network.eval().maps(images)[self._chosen]

    def value(self, latent: Tensor, weight: Tensor, features: Tensor) -> PerImage:
        """The value of each image.

        Args:
            latent: (batch, channel, height, width).
            weight: of the projection, (feature, channel).
            features: (batch, feature, *sizes).
        """
        cosine_margin, distance_margin = self.margins
        with full_precision(latent.device):
            wanted = F.interpolate(
                at_least_float32(features), size=latent.shape[2:], mode="bilinear", align_corners=False
            )
            z = torch.einsum("fc,bcp->bfp", weight.to(latent), latent.flatten(2))
            own, other = F.normalize(z, dim=1), F.normalize(wanted.to(z).flatten(2), dim=1)
            cosine = F.relu(1 - cosine_margin - (own * other).sum(1)).mean(1)
            difference = (own.mT @ own - other.mT @ other).abs()
            return cosine + F.relu(difference - distance_margin).flatten(1).mean(1)


def _chosen_map(maps: Sequence[Tensor], latent_shape: Shape, layer: int | None) -> int:
    """The number of the map to compare with a latent map."""
    spatial = [number for number, each in enumerate(maps) if each.ndim == 4]
    if not spatial:
        raise ConfigError("the features of its network have no height and width. Use another network")
    if layer is not None:
        if not -len(maps) <= layer < len(maps) or layer % len(maps) not in spatial:
            raise ConfigError(f"layer: its network has the maps {', '.join(map(str, spatial))}, not {layer}")
        return layer % len(maps)
    large = [
        number
        for number in spatial
        if all(size >= own for size, own in zip(maps[number].shape[2:], latent_shape[1:], strict=True))
    ]
    return large[-1] if large else max(spatial, key=lambda number: math.prod(maps[number].shape[2:]))
