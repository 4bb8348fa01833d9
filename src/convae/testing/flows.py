"""The check of a normalizing flow."""

from __future__ import annotations

import torch
from torch import Tensor

from convae.core.arguments import Named
from convae.core.random import torch_generator
from convae.core.types import Shape
from convae.model.flows import FLOWS
from convae.model.flows.base import Flow, build_flow
from convae.testing.entries import name_of, no_errors, require, unchanged
from convae.testing.models import check_model, describe_decoder, describe_model

_IMAGE: Shape = (1, 8, 8)


def check_flow(flow: str | type[Flow]) -> None:
    """Checks the contract of a normalizing flow with its `example`, for vectors and maps, with and without features.

    It starts close to the identity; `inverse` inverts `forward`; both return the log-determinant of their Jacobian, as
    torch computes it, in float64; they are independent of other latents of the batch; every parameter receives a
    gradient; half precision is computed in float32. A model with it can be described, saved, loaded and exported.

    Args:
        flow: class or registered name.

    Raises:
        AssertionError: the contract is violated.
    """
    name = name_of(FLOWS, flow)
    entry: Named = {name: dict(FLOWS.get(name).example)}
    cases: list[tuple[Shape, Shape | None]] = [((4,), None), ((4,), (5,)), ((2, 3, 2), None), ((2, 3, 2), (3, 3, 2))]
    for shape, features in cases:
        where = f"flow {name} on {shape}" + ("" if features is None else " with features")
        with no_errors(where):
            made = build_flow(entry, shape, features).double()
        made.reset(torch_generator(0, "flow"))
        noise, known = _values(shape, "noise"), None if features is None else _values(features, "features")
        start = float((made(noise, known)[0].detach() - noise).abs().max())
        require(start < 0.1, f"{where}: starts {start:.2g} from the identity")
        with torch.no_grad():
            for key, parameter in made.named_parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch_generator(1, key)))
        _check_maps(made, noise, known, where)
        _check_gradients(made, noise, known, where)
        half = made.float()(noise.bfloat16(), None if known is None else known.bfloat16())
        require(half[0].dtype == half[1].dtype == torch.float32, f"{where}: bfloat16 is not computed in float32")
    bottleneck = {"gaussian": {"latent": 3, "flow": entry}}
    spec = describe_model(_IMAGE, ["flatten"], bottleneck, describe_decoder((3,), _IMAGE, 1), "bernoulli")
    check_model(spec, f"flow {name}")


def _values(shape: Shape, name: str) -> Tensor:
    return torch.randn(3, *shape, generator=torch_generator(0, name), dtype=torch.float64)


def _check_maps(flow: Flow, noise: Tensor, features: Tensor | None, where: str) -> None:
    with unchanged(where, noise, *([] if features is None else [features])):
        latent, log_det = flow(noise, features)
    with unchanged(f"{where}, inverse", latent):
        again, other = flow.inverse(latent, features)
    require(latent.shape == noise.shape, f"{where}: gives latents of the shape {tuple(latent.shape)}")
    require(log_det.shape == other.shape == (3,), f"{where}: the log-determinant must have the shape (batch,)")
    require(torch.allclose(again, noise, atol=1e-8), f"{where}: inverse does not invert forward")
    require(torch.allclose(other, -log_det, atol=1e-8), f"{where}: the log-determinants do not cancel")
    for row in range(3):
        own = None if features is None else features[row : row + 1]

        def one(u: Tensor, own: Tensor | None = own) -> Tensor:
            z: Tensor = flow(u[None], own)[0][0]
            return z

        jacobian = torch.autograd.functional.jacobian(one, noise[row]).reshape(noise[0].numel(), -1)
        expected = torch.linalg.slogdet(jacobian).logabsdet
        require(torch.allclose(log_det[row], expected, atol=1e-8), f"{where}: wrong log-determinant")
        alone = torch.allclose(one(noise[row]), latent[row], atol=1e-8)
        require(alone, f"{where}: a latent depends on other latents of the batch")


def _check_gradients(flow: Flow, noise: Tensor, features: Tensor | None, where: str) -> None:
    for direction in (flow, flow.inverse):
        flow.zero_grad()
        latent, log_det = direction(noise, features)
        (latent.square().sum() + log_det.sum()).backward()
        for key, parameter in flow.named_parameters():
            gradient = parameter.grad
            require(gradient is not None and gradient.isfinite().all(), f"{where}: {key} has no finite gradient")
            require(gradient is not None and gradient.any(), f"{where}: the gradient of {key} is zero")
