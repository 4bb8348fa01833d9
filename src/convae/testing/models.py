"""The checks of a model that all of its parts have in common."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import convae
from convae.core.names import one_line
from convae.core.random import torch_generator
from convae.core.types import Shape
from convae.model.inputs import unchecked_values
from convae.model.summary import summarize
from convae.model.vae import VAE
from convae.testing.entries import no_errors, require


def check_model(spec: dict[str, Any], where: str) -> None:
    """Checks that a model can be trained, described, saved, loaded, exported and summarized.

    Args:
        spec: description of the model.
        where: name for messages.

    Raises:
        AssertionError: the contract is violated.
    """
    with no_errors(where):
        model = convae.build(spec)
        again = convae.build(spec).state_dict()
        for key, value in model.state_dict().items():
            require(
                torch.equal(value, again[key]),
                f"{where}: the seed does not determine {key}. Draw initial values from the generator of reset",
            )
        _check_gradients(model, where)
        _check_types(spec, where)
        check_stored_form(model, where)
        check_saved(model, where)
        check_summary(model, where)
        _check_export(model.eval(), where)


def _check_gradients(model: VAE, where: str) -> None:
    # Inputs of both signs, since some layers pass only one of them.
    with unchecked_values():
        # Labels, which layers may use.
        out = model(example_images(model) * 2 - 1, torch_generator(1, "noise"), torch.tensor([0, 1, 0]))
    for name, term in out.terms.items():
        require(term.shape == (3,), f"{where}: term {name} has the shape {tuple(term.shape)}, must have (batch,)")
    cost = sum((term.sum() for term in out.terms.values()), -out.likelihood.log_prob(example_images(model)).sum())
    cost.backward()
    for key, parameter in model.named_parameters():
        gradient = parameter.grad
        require(gradient is not None, f"{where}: {key} receives no gradient")
        require(gradient is not None and gradient.isfinite().all(), f"{where}: the gradient of {key} is not finite")
        require(gradient is not None and gradient.any(), f"{where}: the gradient of {key} is zero")


def _check_types(spec: dict[str, Any], where: str) -> None:
    """Checks that the model computes in float64, and that its densities are float32 in mixed precision."""
    model = convae.build(spec)
    x = example_images(model)
    with torch.autocast("cpu", torch.bfloat16):
        out = model(x, torch_generator(1, "noise"))
        density = out.likelihood.log_prob(x)
    for what, found in {"log_prob": density, "the latent": out.latent, **out.terms}.items():
        require(found.dtype == torch.float32, f"{where}: in mixed precision {what} is {found.dtype}, must be float32")
        require(found.isfinite().all(), f"{where}: in mixed precision {what} is not finite")
    try:
        model.double()(x.double(), torch_generator(1, "noise"))
    except RuntimeError as error:
        raise AssertionError(f"{where}: does not compute in float64 ({error})") from error


def check_stored_form(model: VAE, where: str) -> None:
    """Checks that the canonical description of a model describes the same model."""
    stored = model.spec.model_dump(mode="json")
    again = convae.build(json.loads(json.dumps(stored))).spec
    require(again == model.spec, f"{where}: its stored form {stored} is read as {again.model_dump(mode='json')}")


def check_saved(model: VAE, where: str) -> None:
    """Checks that a model gives the same outputs after saving and loading."""
    model.train()(example_images(model), torch_generator(1, "noise"))  # updates running statistics
    with tempfile.TemporaryDirectory() as folder:
        again = convae.load(convae.save(model, Path(folder) / "model"))
    x = example_images(model)
    with torch.no_grad():
        first, repeated, second = model.eval()(x), model(x), again(x)
    same = torch.equal(first.latent, repeated.latent) and torch.equal(first.likelihood.mean, repeated.likelihood.mean)
    require(
        same, f"{where}: two passes in evaluation mode differ. Draw noise by the context, and only where it says so"
    )
    equal = torch.equal(first.likelihood.log_prob(x), second.likelihood.log_prob(x))
    equal &= torch.equal(first.likelihood.mean, second.likelihood.mean)
    require(
        equal and torch.equal(first.latent, second.latent), f"{where}: gives different outputs after saving and loading"
    )
    require(again.spec == model.spec, f"{where}: has a different description after saving and loading")


def check_summary(model: VAE, where: str) -> None:
    """Checks that the summary of a model has all parameters and the right shapes."""
    rows = summarize(model)
    counted = sum(row.parameters for row in rows)
    there = sum(each.numel() for each in model.parameters())
    require(counted == there, f"{where}: its summary counts {counted} of {there} parameters")
    raw = (model.head.raw_channels(model.input_shape[0]), *model.input_shape[1:])
    last = [row.shape for row in rows if row.part == "decoder"][-1]
    require(last == raw, f"{where}: the summary of the decoder ends with the shape {last}, expected {raw}")


class _Reconstruct(torch.nn.Module):
    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        mean: Tensor = self.model(x).likelihood.mean
        return mean


def _check_export(model: VAE, where: str) -> None:
    x = example_images(model)
    try:
        with torch.no_grad():
            exported = torch.export.export(
                _Reconstruct(model), (x,), dynamic_shapes={"x": {0: torch.export.Dim("batch", min=1)}}
            )
    except Exception as error:
        advice = "For any number of images, take it from x.shape[0], not len(x)"
        raise AssertionError(f"{where}: torch.export fails ({one_line(error)[:300]}). {advice}") from error
    x = torch.cat([x, x.flip(0)])
    equal = torch.allclose(exported.module()(x), model(x).likelihood.mean, atol=1e-6)
    require(equal, f"{where}: gives different outputs after torch.export")


def example_images(model: VAE) -> Tensor:
    """Three images for a model, in [0, 1]."""
    return torch.rand(3, *model.input_shape, generator=torch_generator(0, "test"))


def describe_model(
    input: Shape, encoder: list[Any], bottleneck: Any, decoder: list[Any], likelihood: Any
) -> dict[str, Any]:
    """A description of a model from its parts."""
    return {
        "input": list(input),
        "encoder": encoder,
        "bottleneck": bottleneck,
        "decoder": decoder,
        "likelihood": likelihood,
    }


def describe_decoder(latent: Shape, image: Shape, channels: int) -> list[Any]:
    """A decoder from any latent to this number of channels at the sizes of an image."""
    raw = (channels, *image[1:])
    flat: list[Any] = ["flatten"] if len(latent) > 1 else []
    return [*flat, {"linear": {"features": math.prod(raw)}}, {"unflatten": {"to": list(raw)}}]
