"""Contract tests of bottlenecks, likelihoods and presets."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import torch

import convae
from convae.core.errors import ShapeError
from convae.core.random import torch_generator
from convae.core.types import Shape
from convae.describe import resolve
from convae.model.bottlenecks import BOTTLENECKS
from convae.model.bottlenecks.base import Bottleneck
from convae.model.construct import construct
from convae.model.likelihoods import LIKELIHOODS
from convae.model.likelihoods.base import LikelihoodHead
from convae.model.presets import PRESETS
from convae.model.vae import VAE
from convae.testing.entries import name_of, no_errors, require, unchanged
from convae.testing.models import check_model, describe_decoder, describe_model, example_images

_FEATURES: Shape = (4, 4, 4)


def check_bottleneck(bottleneck: str | type[Bottleneck]) -> None:
    """Checks the contract of a bottleneck with its `example`; see `check_layer`. Covers `head_output` and `from_head`.

    Args:
        bottleneck: class or registered name.

    Raises:
        AssertionError: the contract is violated.
    """
    name = name_of(BOTTLENECKS, bottleneck)
    kind = BOTTLENECKS.get(name)
    entry = {name: dict(kind.example)}
    encoder: list[Any] = [{"conv": {"channels": _FEATURES[0], "stride": 2}}]
    try:
        latent: Shape = kind(_FEATURES, **kind.example).latent_shape
    except ShapeError:  # it takes vectors only
        encoder, latent = [*encoder, "flatten"], kind((math.prod(_FEATURES),), **kind.example).latent_shape
    spec = describe_model((1, 8, 8), encoder, entry, describe_decoder(latent, (1, 8, 8), 1), "bernoulli")
    check_model(spec, f"bottleneck {name}")
    with no_errors(f"bottleneck {name}"), torch.no_grad():
        model = convae.build(spec, seed=1).eval()
        images = example_images(model)
        whole = model(images, torch_generator(0, "draw"))
        halves = model.decode_head(model.head_output(images), torch_generator(0, "draw"))
    same = torch.allclose(whole.latent, halves.latent, rtol=1e-5, atol=1e-6)
    require(same, f"bottleneck {name}: from_head of head_output gives other latents than forward")


def check_likelihood(likelihood: str | type[LikelihoodHead]) -> None:
    """Checks the contract of a likelihood with its `example`; see `check_layer`.

    Covers `sample`, `log_prob` and `raw_for`.

    Args:
        likelihood: class of the head or registered name.

    Raises:
        AssertionError: the contract is violated.
    """
    name = name_of(LIKELIHOODS, likelihood)
    kind = LIKELIHOODS.get(name)
    shape: Shape = (2, 6, 5)
    raw = kind(**kind.example).raw_channels(shape[0])
    entry = {name: dict(kind.example)}
    spec = describe_model(shape, ["flatten"], {"gaussian": {"latent": 3}}, describe_decoder((3,), shape, raw), entry)
    check_model(spec, f"likelihood {name}")
    with no_errors(f"likelihood {name}"), torch.no_grad():
        model = convae.build(spec).eval()
        images = example_images(model)
        found = model(images).likelihood
        drawn = [found.sample(torch_generator(0, "draw")) for _ in range(2)]
        with unchanged(f"likelihood {name}, log_prob", images):
            density = found.log_prob(images)
            values = found.log_prob_values(images)
    found_shape = tuple(values.shape)
    require(values.shape == images.shape, f"likelihood {name}: log_prob_values has the shape {found_shape}")
    require(torch.equal(drawn[0], drawn[1]), f"likelihood {name}: sample is not deterministic for equal generators")
    for what, values in (("mean", found.mean), ("sample", drawn[0])):
        require(values.shape == (3, *shape), f"likelihood {name}: {what} has the shape {tuple(values.shape)}")
        inside = bool((values >= 0).all() and (values <= 1).all())
        require(inside, f"likelihood {name}: {what} has values outside [0, 1]")
        raws = model.head.raw_for(torch.tensor([0.2, 0.7]))
        starts = None if raws is None else model.head(raws.view(1, -1, 1, 1)).mean.flatten().tolist()
    near = starts is None or all(abs(mean - wanted) < 1e-3 for mean, wanted in zip(starts, (0.2, 0.7), strict=True))
    require(near, f"likelihood {name}: raw_for gives raw values whose means are {starts}, not [0.2, 0.7]")
    require(
        density.shape == (3,), f"likelihood {name}: log_prob must have the shape (batch,), got {tuple(density.shape)}"
    )
    _check_ends(model, f"likelihood {name}")


def _check_ends(model: VAE, where: str) -> None:
    """Checks images of zeros and ones, such as binary ones, whose densities may be infinite."""
    images = example_images(model)
    for value in (0.0, 1.0):
        # Not the output for these images: for zeros, that of a new model may be zero, at which a density may be finite.
        density = model(images).likelihood.log_prob(torch.full_like(images, value))
        density.sum().backward()
        gradients = [each.grad for each in model.parameters() if each.grad is not None]
        finite = bool(density.isfinite().all()) and all(bool(each.isfinite().all()) for each in gradients)
        require(finite, f"{where}: log_prob of images of the value {value:g} is not finite, or has no finite gradient")


def check_preset(preset: str | Callable[..., Any]) -> None:
    """Checks that a preset describes a model, and that the stored form describes the same model.

    Args:
        preset: function or registered name.

    Raises:
        AssertionError: the contract is violated.
    """
    name = name_of(PRESETS, preset)
    with no_errors(f"preset {name}"):
        model = construct(resolve({"preset": name}))
        again = construct(resolve(json.loads(json.dumps(model.spec.model_dump(mode="json")))))
    require(again.spec == model.spec, f"preset {name}: its stored form describes a different model")
    require(model.name == name.rpartition(":")[2], f"preset {name}: its model has the name {model.name}")
