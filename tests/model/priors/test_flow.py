"""A flow as the prior: its density, its samples, training with a model, fitting afterwards."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

import convae
from convae.core.errors import ConfigError
from convae.core.random import torch_generator
from convae.model.priors.flow import FlowPrior
from convae.model.vae import VAE

SPEC: dict[str, Any] = {
    "input": [1, 8, 8],
    "encoder": [{"conv": {"channels": 4, "stride": 2}}, "silu", "flatten"],
    "bottleneck": {"gaussian": {"latent": 2}},
    "decoder": [{"linear": {"features": 64}}, {"unflatten": {"to": [1, 8, 8]}}],
}
MAP: dict[str, Any] = {
    **SPEC,
    "encoder": [{"conv": {"channels": 4, "stride": 2}}, "silu"],
    "decoder": ["flatten", {"linear": {"features": 64}}, {"unflatten": {"to": [1, 8, 8]}}],
}
FLOWS: list[Any] = [
    {"flow": {"transform": {"coupling": {"steps": 4, "hidden": 16}}}},
    {"flow": {"transform": {"maf": {"steps": 3, "hidden": 16}}}},
]
IMAGES = torch.rand(6, 1, 8, 8, generator=torch_generator(0, "images"))


def built(prior: Any, spec: dict[str, Any] = SPEC) -> VAE:
    model = convae.build({**spec, "prior": prior}).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch_generator(1, name)))
    return model


@pytest.mark.parametrize("prior", FLOWS)
@torch.no_grad()
def test_the_density_has_the_mass_1(prior: Any) -> None:
    model = built(prior).double()
    side = torch.linspace(-12, 12, 241, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)
    assert float(model.prior.log_prob(grid).exp().sum() * (side[1] - side[0]) ** 2) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("prior", FLOWS)
@pytest.mark.parametrize("spec", [SPEC, MAP], ids=["vector", "map"])
@torch.no_grad()
def test_samples_have_the_density_of_their_noise(prior: Any, spec: dict[str, Any]) -> None:
    model = built(prior, spec)
    drawn = model.sample_latents(4, torch_generator(0, "draw"))
    noise = torch.randn(4, *model.latent_shape, generator=torch_generator(0, "draw"))
    assert isinstance(model.prior, FlowPrior)
    latent, log_det = model.prior.flow(noise)
    torch.testing.assert_close(drawn, latent)
    normal = -0.5 * (noise.square() + math.log(2 * math.pi)).flatten(1).sum(1)
    torch.testing.assert_close(model.prior.log_prob(drawn), normal - log_det, rtol=1e-4, atol=1e-4)
    half = model.sample_latents(4, torch_generator(0, "draw"), temperature=0.5)
    torch.testing.assert_close(half, model.prior.flow(0.5 * noise)[0])
    each = model.sample_latents(2, [torch_generator(0, n) for n in range(2)])
    torch.testing.assert_close(each[1:], model.sample_latents(1, [torch_generator(0, 1)]))
    assert model.bfloat16().sample_latents(2, torch_generator(0, "draw")).dtype == torch.bfloat16
    assert model.prior.log_prob(drawn.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("prior", FLOWS)
def test_training_starts_close_to_the_standard_normal(prior: Any) -> None:
    model = convae.build({**SPEC, "prior": prior}).train()
    plain = convae.build(SPEC).train()
    plain.load_state_dict({key: value for key, value in model.state_dict().items() if not key.startswith("prior")})
    output, other = model(IMAGES, torch_generator(0, "noise")), plain(IMAGES, torch_generator(0, "noise"))
    own = plain.bottleneck.posterior(plain.encode_features(IMAGES).values)
    estimate = own.log_prob(other.latent) - own.log_prior(other.latent)
    torch.testing.assert_close(output.posterior.kl(), estimate, rtol=0, atol=0.2)


@pytest.mark.parametrize("prior", FLOWS)
def test_it_can_be_fitted_to_latents(prior: Any) -> None:
    model = convae.build({**SPEC, "prior": prior})
    angle = 6.28 * torch.rand(512, generator=torch_generator(0, "angle"))
    ring = torch.stack([angle.cos(), angle.sin()], 1) * 2
    ring = ring + 0.1 * torch.randn(512, 2, generator=torch_generator(0, "width"))
    optimizer = torch.optim.Adam(model.prior.parameters(), 1e-2)
    for _ in range(200):
        loss = -model.prior.log_prob(ring).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    gaussian = torch.distributions.MultivariateNormal(ring.mean(0), ring.T.cov())
    assert float(loss.detach()) < float(-gaussian.log_prob(ring).mean()) - 0.3


@pytest.mark.parametrize("prior", ["flow", *FLOWS])
def test_it_is_saved(prior: Any, tmp_path: Path) -> None:
    model = built(prior, MAP)
    again = convae.load(convae.save(model, tmp_path / "model"))
    assert torch.equal(again.sample(3, torch_generator(0, "samples")), model.sample(3, torch_generator(0, "samples")))
    assert again.spec == model.spec


def test_what_it_cannot_be() -> None:
    with pytest.raises(ConfigError, match="transformer"):
        convae.build({**SPEC, "bottleneck": {"vq": {"codes": 4, "latent": 3}}, "prior": "flow"})
    with pytest.raises(ConfigError, match="maf"):
        convae.build({**SPEC, "prior": {"flow": {"transform": "iaf"}}})
    with pytest.raises(ConfigError, match="steps"):
        convae.build({**SPEC, "prior": {"flow": {"transform": {"maf": {"stepz": 3}}}}})
