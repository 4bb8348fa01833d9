"""The check of a discriminator."""

from __future__ import annotations

import copy

import torch

from convae.core.arguments import Named
from convae.core.random import torch_generator
from convae.core.types import Shape
from convae.objective.discriminators import DISCRIMINATORS
from convae.objective.discriminators.base import Discriminator, build_discriminator
from convae.testing.entries import name_of, no_errors, require, unchanged

_SHAPES: list[Shape] = [(1, 40), (3, 24, 21), (1, 12, 14, 13)]


def check_discriminator(discriminator: str | type[Discriminator]) -> None:
    """Checks the contract of a discriminator with its `example`, for images of one, two and three dimensions.

    Logits are finite and (batch, location) for each scale; those of an image do not depend on other images; image and
    parameters receive a gradient; `reset` and the seed determine the weights. `features`, if any, are checked alike.

    Args:
        discriminator: class or registered name.

    Raises:
        AssertionError: the contract is violated.
    """
    name = name_of(DISCRIMINATORS, discriminator)
    entry: Named = {name: dict(DISCRIMINATORS.get(name).example)}
    for shape in _SHAPES:
        where = f"discriminator {name} on {shape}"
        with no_errors(where):
            made, other = (build_discriminator(entry, shape).double() for _ in range(2))
        made.reset(torch_generator(0, "discriminator"))
        other.reset(torch_generator(0, "discriminator"))
        for key, value in made.state_dict().items():
            require(torch.equal(value, other.state_dict()[key]), f"{where}: reset does not determine {key}")
        images = torch.rand(3, *shape, generator=torch_generator(0, "images"), dtype=torch.float64)
        with unchanged(where, images):
            made.train()(images)  # the first batch in training mode may initialize layers
        made.after_step()
        _check_logits(made, images.requires_grad_(), where)
        if type(made).features is not Discriminator.features:
            _check_features(made, images.detach().requires_grad_(), where)


def _check_logits(made: Discriminator, images: torch.Tensor, where: str) -> None:
    logits = made(images)
    require(isinstance(logits, tuple) and len(logits) > 0, f"{where}: must return a tuple of logits")
    for own in logits:
        is_table = own.ndim == 2 and len(own) == len(images) and own.shape[1] > 0
        require(is_table, f"{where}: logits must have the shape (batch, location), got {tuple(own.shape)}")
        require(own.isfinite().all(), f"{where}: its logits are not finite")
    for own, alone in zip(copy.deepcopy(made)(images), copy.deepcopy(made)(images[:1]), strict=True):
        same = torch.allclose(own[:1], alone, rtol=1e-9, atol=1e-12)
        require(same, f"{where}: the logits of an image depend on the rest of the batch")
    sum(own.mean() for own in logits).backward()
    require(images.grad is not None and images.grad.any(), f"{where}: the images receive no gradient")
    for key, parameter in made.named_parameters():
        require(parameter.grad is not None and parameter.grad.any(), f"{where}: {key} receives no gradient")


def _check_features(made: Discriminator, images: torch.Tensor, where: str) -> None:
    scales = made.features(images)
    is_nested = isinstance(scales, tuple) and all(isinstance(layers, tuple) and layers for layers in scales)
    require(is_nested, f"{where}: features must return a tuple of layers for each scale")
    require(
        len(scales) == len(made(images)), f"{where}: features must have as many scales as the logits, got {len(scales)}"
    )
    pairs = [
        (own, alone)
        for layers, others in zip(scales, made.features(images[:1]), strict=True)
        for own, alone in zip(layers, others, strict=True)
    ]
    for own, alone in pairs:
        require(len(own) == len(images), f"{where}: features must have the shape (batch, …), got {tuple(own.shape)}")
        require(own.isfinite().all(), f"{where}: its features are not finite")
        same = torch.allclose(own[:1], alone, rtol=1e-9, atol=1e-12)
        require(same, f"{where}: the features of an image depend on the rest of the batch")
        (gradient,) = torch.autograd.grad(own.sum(), [images], retain_graph=True, allow_unused=True)
        require(gradient is not None and gradient.any(), f"{where}: the images receive no gradient by its features")
