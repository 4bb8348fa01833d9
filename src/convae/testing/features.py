"""The check of a feature network."""

from __future__ import annotations

from typing import Any

import torch

from convae.core.random import torch_generator
from convae.core.types import Shape
from convae.features import NETWORKS, FeatureNetwork, build_feature_network
from convae.testing.entries import name_of, no_errors, require, unchanged


def check_feature_network(
    network: str | type[FeatureNetwork], options: dict[str, Any] | None = None, image_shape: Shape = (3, 48, 40)
) -> None:
    """Checks the contract of a feature network.

    It states name, SHA-256 and preprocessing; its features are finite, do not depend on other images of the batch, and
    are frozen; the distance of equal images is 0, that of others positive, with a gradient for the second image.

    Args:
        network: class or registered name.
        options: its arguments; by default its `example`.
        image_shape: shape of the images, channels first.

    Raises:
        AssertionError: the contract is violated.
    """
    name = name_of(NETWORKS, network)
    where = f"feature network {name}"
    with no_errors(where):
        made = build_feature_network({name: dict(NETWORKS.get(name).example if options is None else options)})
    for what in ("name", "sha256", "preprocessing"):
        require(getattr(made, what, ""), f"{where}: must define {what}")
    require(len(made.sha256) == 64, f"{where}: sha256 must have 64 digits, got {made.sha256!r}")
    require(not any(each.requires_grad for each in made.parameters()), f"{where}: its weights require gradients")
    x, y = torch.rand(2, 3, *image_shape, generator=torch_generator(0, "images")).unbind()
    y = y.requires_grad_()
    with unchanged(where, x):
        maps = made.maps(x)
    with no_errors(where):
        others = build_feature_network({name: dict(NETWORKS.get(name).example if options is None else options)}).maps(x)
    is_repeated = all(map(torch.equal, maps, others))
    require(
        is_repeated,
        f"{where}: has other weights when it is built again. Read them from a file or draw them by seed",
    )
    require(isinstance(maps, list) and len(maps) > 0, f"{where}: maps must return a list of features")
    for own, alone in zip(maps, made.maps(x[:1]), strict=True):
        require(own.ndim >= 2 and len(own) == len(x), f"{where}: features must have the shape (batch, channel, …)")
        require(own.isfinite().all(), f"{where}: its features are not finite")
        same = (own[:1] - alone).abs().max() <= 1e-4 * own.abs().max()
        require(same, f"{where}: the features of an image depend on the rest of the batch")
    vectors = made(x)
    require(vectors.ndim == 2 and len(vectors) == len(x), f"{where}: must return vectors, (batch, feature)")
    require(not made.distance(x, x).any(), f"{where}: equal images have a distance")
    distance = made.distance(x, y)
    require(distance.shape == (3,) and (distance > 0).all(), f"{where}: distances must be positive, (batch,)")
    distance.sum().backward()
    require(y.grad is not None and y.grad.any(), f"{where}: the second image receives no gradient")
