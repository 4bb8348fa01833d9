"""Contract tests of layers."""

from __future__ import annotations

import math
from typing import Any

import torch

import convae
from convae.core.errors import ShapeError
from convae.core.names import one_line
from convae.core.random import torch_generator
from convae.core.types import Shape
from convae.model.initialize import initialize
from convae.model.layers import LAYERS
from convae.model.layers.base import Layer
from convae.model.layers.base.features import feature_shapes
from convae.model.layers.base.layer import copy_to_meta
from convae.model.layers.base.network import Network
from convae.testing.entries import name_of, no_errors, require, unchanged
from convae.testing.models import check_model, describe_decoder, describe_model, example_images

_FEATURE = "example"
"""The name of the feature that examples of layers take."""
_OTHER_SIZES = (7, 8, 6)


def check_layer(layer: str | type[Layer]) -> None:
    """Checks the contract of a layer with its `example` and with one, two and three spatial axes.

    Its output has the stated shape, is finite, and is independent of other images of the batch; every parameter
    receives a gradient; a model with it can be described, saved, loaded, exported and summarized, and gives equal
    results in slices.

    Args:
        layer: class or registered name.

    Raises:
        AssertionError: the contract is violated.
    """
    name = name_of(LAYERS, layer)
    kind = LAYERS.get(name)
    _check_shapes(name, kind, kind.example_shape, must_fit=True)
    for axes in range(1, 4):
        _check_shapes(name, kind, (kind.example_shape[0], *_OTHER_SIZES[:axes]), must_fit=False)
    spec = _around_layer(name, kind)
    check_model(spec, f"layer {name}")
    _check_slices(spec, f"layer {name}")


def _check_shapes(name: str, kind: type[Layer], shape: Shape, *, must_fit: bool) -> None:
    where = f"layer {name} on {shape}"
    try:
        with feature_shapes({_FEATURE: shape} if "feature" in kind.example else {}):
            network = Network(shape, [{name: dict(kind.example)}], "layers")
    except ShapeError as error:
        require(not must_fit, f"{where}: {error}")
        return
    with no_errors(where):
        initialize(network, 0)
    x = torch.randn(2, *shape, generator=torch_generator(0, "layer"))
    with unchanged(where, x), torch.no_grad():
        found = tuple(network(x).shape[1:])
    _check_device(network, x, where)
    require(found == network.shape_out, f"{where}: states the output shape {network.shape_out}, but returns {found}")
    network.eval()
    alone, together = network(x[:1]), network(x)[:1]
    require(alone.isfinite().all(), f"{where}: its output is not finite")
    close = torch.allclose(alone, together, rtol=1e-4, atol=1e-5)
    require(close, f"{where}: in evaluation mode, the output of an image depends on other images of the batch")
    does_nothing = torch.equal(alone, x[:1]) and not list(network.parameters())
    require(does_nothing or not kind.only_in_training, f"{where}: only_in_training, but has parameters or acts")
    before = next(iter(network)).inverse(alone)
    inverts = before is None or torch.allclose(before, x[:1], rtol=1e-3, atol=1e-4)
    require(inverts, f"{where}: inverse of the output is not the input")
    field = network.receptive_field()
    fits = field is None or len(field.kernel) == len(shape) - 1
    require(fits, f"{where}: receptive_field must have one value per spatial axis")


def _check_device(network: Network, x: torch.Tensor, where: str) -> None:
    """Checks that a layer computes on the device of its input; the meta device stands for one."""
    try:
        copy_to_meta(network)(x.to("meta"))
    except RuntimeError as error:
        advice = "Make tensors on the device of the input: device=x.device"
        raise AssertionError(f"{where}: fails on another device ({one_line(error)}). {advice}") from error


def _check_slices(spec: dict[str, Any], subject: str) -> None:
    """Compares an image in slices of two rows with the whole image."""
    advice = "Define its receptive_field, or a larger one, or set over_positions = True"
    with no_errors(f"{subject}, in slices"), torch.no_grad():
        model = convae.build(spec).eval()
        x = example_images(model)
        whole = model(x)
        model.use_slices(2)
        try:
            sliced = model(x)
        except RuntimeError as error:
            raise AssertionError(f"{subject}: fails in slices ({one_line(error)}). {advice}") from error
    for found, expected in ((sliced.latent, whole.latent), (sliced.likelihood.mean, whole.likelihood.mean)):
        equal = torch.allclose(found, expected, rtol=1e-3, atol=1e-4)
        require(equal, f"{subject}: differs in slices. {advice}")


def _around_layer(name: str, kind: type[Layer]) -> dict[str, Any]:
    """A model with the example of a layer in its encoder."""
    shape = kind.example_shape
    image = shape if len(shape) > 1 else (1, shape[0])
    entry = {name: dict(kind.example)}
    if "feature" in kind.example:
        # It takes a feature of the encoder by name.
        encoder: list[Any] = [{"feature": {"name": _FEATURE}}, "flatten"]
        decoder = [{"linear": {"features": math.prod(image)}}, {"unflatten": {"to": list(image)}}, entry]
        return describe_model(image, encoder, {"gaussian": {"latent": 3}}, decoder, "bernoulli")
    encoder = [entry] if len(shape) > 1 else ["flatten", entry]
    after = Network(image, encoder, "encoder").shape_out
    encoder += ["flatten"] if len(after) > 1 else []
    return describe_model(
        image, encoder, {"gaussian": {"latent": 3}}, describe_decoder((3,), image, image[0]), "bernoulli"
    )
