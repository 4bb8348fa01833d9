"""The equivariance term: the transformations of EQ-VAE, whom it trains, and the models that it refuses."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from narrow import narrow
from torch import Tensor
from torch.nn import functional as F

import convae
from convae.core.errors import ConfigError
from convae.core.noise import CountedNoise
from convae.core.random import torch_generator
from convae.core.types import Batch
from convae.model.layers.base import Network, network, run_layers
from convae.model.likelihoods.gaussian import GaussianLikelihood
from convae.model.vae import VAE
from convae.objective.objective import Losses, build_objective
from convae.objective.schedules.base import Moment

UP: dict[str, Any] = {"conv-transpose": {"channels": 3, "kernel": 4, "stride": 2, "output_padding": 1}}
MAP: dict[str, Any] = {
    "input": [3, 8, 8],
    "encoder": [{"conv": {"channels": 4, "stride": 2}}, "silu"],
    "bottleneck": {"gaussian": {"latent": 2}},
    "decoder": [{"conv": {"channels": 4}}, "silu", UP],
    "likelihood": {"gaussian": {"sigma": 0.3, "link": "identity"}},
}


def images(*sizes: int) -> Tensor:
    return torch.rand(5, 3, *sizes, generator=torch_generator(0, "images"), dtype=torch.float64)


def model_of(**changed: Any) -> VAE:
    return convae.build({**MAP, **changed}, seed=1).double()


def value(model: VAE, x: Tensor, step: int = 0, noise: Any = None, **options: Any) -> Tensor:
    objective = build_objective({"equivariance": options})
    objective.bind(model.latent_shape, model.input_shape)
    losses: Losses = objective(x, model(x, noise), Moment(step, 0.0, 0.0))
    return losses.terms["equivariance"]


def of_the_paper(model: VAE, x: Tensor, scale: float, angle: int) -> Tensor:
    """−log p of a transformed image given its transformed latent, for a whole image (Kouzelis et al. 2025)."""
    z = model(x).latent
    if scale != 1:
        z = F.interpolate(z, scale_factor=scale, mode="bilinear", align_corners=False)
    decoded = narrow(GaussianLikelihood, model.decode(torch.rot90(z, k=angle, dims=[-1, -2]))).location
    wanted = x if scale == 1 else F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)
    wanted = torch.rot90(wanted, k=angle, dims=[-1, -2])
    sigma = 0.3
    density = -0.5 * ((decoded - wanted) / sigma).square() - math.log(sigma) - 0.5 * math.log(2 * math.pi)
    return -density.flatten(1).sum(1) / scale**2


def test_each_step_has_a_transformation_of_the_paper_and_all_of_them_occur() -> None:
    model, x = model_of().eval(), images(8, 8)
    # The latent map is 4×4.
    known = {(scale, angle): of_the_paper(model, x, scale / 4, angle) for scale in (1, 2, 3) for angle in (1, 2, 3)}
    seen = set()
    for step in range(60):
        found = value(model, x, step)
        (key,) = (key for key, wanted in known.items() if torch.allclose(found, wanted, rtol=1e-9))
        seen.add(key)
    assert seen == set(known)


@pytest.mark.parametrize(
    ("options", "scales", "angles"),
    [({"least_scale": 1}, (4,), (1, 2, 3)), ({"turns": False, "least_scale": 0.5}, (2, 3), (0,))],
)
def test_scaling_and_turning_can_be_left_out(options: Any, scales: Any, angles: Any) -> None:
    model, x = model_of().eval(), images(8, 8)
    known = [of_the_paper(model, x, scale / 4, angle) for scale in scales for angle in angles]
    for step in range(6):
        found = value(model, x, step, **options)
        assert sum(torch.allclose(found, wanted, rtol=1e-9) for wanted in known) == 1


def test_as_a_metric_it_does_not_depend_on_the_step() -> None:
    model, x = model_of().eval(), images(8, 8)
    wanted = torch.stack([of_the_paper(model, x, 0.5, angle) for angle in (1, 2, 3)]).mean(0)
    with torch.no_grad():
        for step in (0, 7):
            torch.testing.assert_close(value(model, x, step), wanted)


def test_encoder_and_decoder_are_trained() -> None:
    model = model_of()
    value(model, images(8, 8), noise=torch_generator(0)).sum().backward()
    assert all(each.grad is not None and each.grad.any() for each in model.parameters())


def test_compiled_code_of_the_decoder_gets_no_other_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    model, sizes = model_of(), list[Any]()
    decoder = narrow(Network, model.decoder)

    def run_compiled(own: Network, x: Tensor, _mode: str) -> Tensor:
        sizes.append(tuple(x.shape[2:]))
        return run_layers(list(own), x)

    monkeypatch.setattr(network, "run_compiled", run_compiled)
    decoder.compile_mode = "default"
    for step in range(4):
        value(model, images(8, 8), step, noise=torch_generator(0)).sum().backward()
    assert sizes == [(4, 4)] * 4
    assert decoder.compile_mode == "default"


def test_slices_and_ranks_share_the_transformation_of_a_step() -> None:
    model, x = model_of(), images(8, 8)
    seen = set()
    for step in range(8):
        noise = CountedNoise(3, (step,), 0, 5)
        together = value(model, x, noise=noise)
        parts = [value(model, x[begin : begin + 1], noise=CountedNoise(3, (step,), begin, 5)) for begin in range(5)]
        torch.testing.assert_close(torch.cat(parts), together)
        seen.add(round(together[0].item(), 6))
    assert len(seen) > 3


def test_images_that_are_not_square_are_turned_with_their_sizes() -> None:
    model = model_of(input=[3, 8, 12]).eval()
    x = images(8, 12)
    found = {step: value(model, x, step) for step in range(12)}
    assert all(each.shape == (5,) and each.isfinite().all() for each in found.values())


VECTOR: dict[str, Any] = {
    "encoder": [*MAP["encoder"], "flatten"],
    "decoder": [{"linear": {"features": 32}}, {"unflatten": {"to": [2, 4, 4]}}, UP],
}
FIXED: dict[str, Any] = {"decoder": ["flatten", *VECTOR["decoder"]]}
CODES: dict[str, Any] = {"bottleneck": {"vq": {"codes": 4, "latent": 2, "update": "gradient"}}}


@pytest.mark.parametrize(
    ("changed", "options", "part"),
    [
        (VECTOR, {}, "latent map"),
        (FIXED, {}, "least_scale: 1"),
        (CODES, {}, "least_scale: 1"),
        ({}, {"least_scale": 1, "turns": False}, "turns: true"),
    ],
)
def test_models_that_it_cannot_transform_are_refused_by_name(changed: Any, options: Any, part: str) -> None:
    model = model_of(**changed)
    with pytest.raises(ConfigError, match=r"objective\.equivariance") as caught:
        value(model, images(8, 8), **options)
    assert part in str(caught.value)


@pytest.mark.parametrize("changed", [FIXED, CODES])
def test_models_of_one_size_and_codes_can_be_turned(changed: Any) -> None:
    assert value(model_of(**changed), images(8, 8), least_scale=1).isfinite().all()


def test_missing_values_are_refused() -> None:
    model, x = model_of(), images(8, 8)
    batch = Batch(x, None, torch.arange(5), weights=torch.ones_like(x))
    objective = build_objective({"equivariance": {}})
    with pytest.raises(ConfigError, match="missing values"):
        objective(batch, model(x))
