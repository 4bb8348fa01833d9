"""Flow matching: closed forms of density and samples, its loss, and a small training."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

import convae
from convae.core.errors import ConfigError
from convae.core.noise import CountedNoise
from convae.core.random import torch_generator
from convae.model.bottlenecks.codes import Codes
from convae.model.bottlenecks.gaussian import Gaussian
from convae.model.priors.flow_matching import FlowMatching, integrate

SMALL: dict[str, Any] = {"width": 16, "blocks": 2, "steps": 30}


def prior(shape: tuple[int, ...], **more: Any) -> FlowMatching:
    made = FlowMatching(Gaussian((4, *shape[1:]), latent=shape[0]), **{**SMALL, **more})
    made.reset(torch_generator(0, "weights"))
    return made.eval()


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 5, 4), (1, 2, 3, 2)])
@torch.no_grad()
def test_before_training_it_is_the_gaussian_of_the_latents(shape: tuple[int, ...]) -> None:
    made = prior(shape, steps=3)
    mean = 2 + 3 * torch.randn(500, *shape, generator=torch_generator(0, "mean"))
    std = 0.5 * torch.ones_like(mean)
    made.prepare(mean, std)
    assert made.scale.flatten()[0] == pytest.approx(math.sqrt(9.25), rel=0.1)
    z = mean[:7]
    expected = Normal(made.shift, made.scale).log_prob(z).flatten(1).sum(1)
    torch.testing.assert_close(made.log_prob(z), expected, rtol=1e-4, atol=1e-4)
    drawn = (made.sample(200, torch_generator(0, "z")) - made.shift) / made.scale
    torch.testing.assert_close(drawn, torch.randn(200, *shape, generator=torch_generator(0, "z")), rtol=0, atol=1e-4)
    assert torch.equal(made.sample(3, torch_generator(0, "z"), temperature=0), made.shift.expand(3, *shape))


@pytest.mark.parametrize("shape", [(3,), (5, 3, 3)])
@torch.no_grad()
def test_density_and_samples_of_a_linear_velocity(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    # dx/dt = a x: samples are e^a times the noise. The estimate of its trace is exact, too.
    monkeypatch.setattr(FlowMatching, "velocity", lambda _, x, *__: 0.7 * x)
    made = prior(shape)
    z = torch.randn(5, *shape, generator=torch_generator(0, "z"))
    expected = Normal(0.0, math.exp(0.7)).log_prob(z).flatten(1).sum(1)
    torch.testing.assert_close(made.log_prob(z), expected, rtol=1e-3, atol=1e-2)
    noise = made.sample(5, torch_generator(0, "z"), steps=1, method="euler") / 1.7
    torch.testing.assert_close(made.sample(5, torch_generator(0, "z")), noise * math.exp(0.7), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("width", [4, 8, 24])
@pytest.mark.parametrize("shape", [(3,), (3, 1, 1), (2, 2, 2)])
@torch.no_grad()
def test_the_velocity_depends_on_the_latents_at_any_width(shape: tuple[int, ...], width: int) -> None:
    made = prior(shape, width=width, blocks=3)
    for parameter in made.net.last.parameters():
        torch.nn.init.normal_(parameter, generator=torch_generator(0, "last"))
    z = torch.randn(64, *shape, generator=torch_generator(0, "z"))
    classes = torch.zeros(64, dtype=torch.int64)
    velocity = made.net(z, torch.full((64,), 0.5), classes)
    assert float(velocity.std(0).min()) > 0.01


def test_heun_is_of_second_order() -> None:
    def error(method: Any, steps: int) -> float:
        found = integrate(lambda x, t: x * t, torch.ones(1, dtype=torch.float64), 0.0, 1.0, steps, method)
        return abs(float(found) - math.exp(0.5))

    assert error("euler", 10) / error("euler", 20) == pytest.approx(2, rel=0.1)
    assert error("heun", 10) / error("heun", 20) == pytest.approx(4, rel=0.1)


def test_training_finds_two_modes_by_label() -> None:
    made = prior((2,), width=32, classes=2, steps=10)
    labels = torch.arange(256) % 2
    centers = torch.tensor([[3.0, 0.0], [-3.0, 1.0]])
    latents = centers[labels] + 0.3 * torch.randn(256, 2, generator=torch_generator(0, "latents"))
    made.prepare(latents, torch.zeros_like(latents))
    start = float(-made.log_prob(latents).mean())
    optimizer = torch.optim.Adam(made.parameters(), 1e-2)
    made.train()
    for step in range(200):
        loss = made.loss(latents, labels, CountedNoise(0, (step,), 0, 256)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    made.eval()
    assert float(-made.log_prob(latents).mean()) < start - 0.2
    assert float(-made.log_prob(latents, labels).mean()) < start - 0.7
    for label in (0, 1):
        drawn = made.sample(200, torch_generator(0, "z"), torch.full((200,), label))
        torch.testing.assert_close(drawn.mean(0), centers[label], rtol=0, atol=0.8)
        assert float(drawn.std(0).max()) < 1.5
    of_any = made.sample(200, torch_generator(0, "z"))
    assert 0.3 < float((of_any[:, 0] > 0).float().mean()) < 0.7


def test_guidance_is_that_of_the_prior_by_default() -> None:
    plain, guided = (prior((2,), classes=2, guidance=guidance) for guidance in (1.0, 2.0))
    for name, value in plain.named_parameters():
        if name.startswith("net.last.") or name == "net.labels":
            torch.nn.init.normal_(value, generator=torch_generator(0, name))
    guided.load_state_dict(plain.state_dict())
    labels = torch.tensor([0, 1, -1])

    def draw(prior: FlowMatching, guidance: float | None = None) -> Tensor:
        return prior.sample(3, torch_generator(0, "samples"), labels, guidance=guidance)

    assert torch.equal(draw(guided), draw(plain, guidance=2.0))
    assert torch.equal(draw(plain), draw(guided, guidance=1.0))
    changed = (draw(guided) - draw(plain)).abs().amax(1)
    assert (changed[:2] > 0).all()
    torch.testing.assert_close(changed[2], torch.tensor(0.0), rtol=0, atol=1e-5)  # without a label


def test_the_loss_depends_on_the_position_in_the_batch_only() -> None:
    made = prior((2, 3, 3), classes=3)
    z, labels = torch.randn(6, 2, 3, 3, generator=torch_generator(0, "z")), torch.arange(6) % 3
    whole = made.loss(z, labels, CountedNoise(0, ("step", 1), 0, 6))
    part = made.loss(z[4:], labels[4:], CountedNoise(0, ("step", 1), 4, 6))
    torch.testing.assert_close(whole[4:], part)


def test_a_model_is_saved_with_it_and_codes_are_refused(tmp_path: Path) -> None:
    spec: dict[str, Any] = {
        "input": [1, 8, 8],
        "encoder": [{"conv": {"channels": 4, "stride": 4}}],
        "bottleneck": {"gaussian": {"latent": 2}},
        "decoder": [{"conv-transpose": {"channels": 1, "stride": 4}}],
        "prior": {"flow-matching": {**SMALL, "classes": 2}},
    }
    model = convae.build(spec).eval()
    assert isinstance(model.prior, FlowMatching)
    with torch.no_grad():
        dict(model.prior.named_parameters())["net.last.bias"].fill_(0.5)
        model.prior.shift.fill_(1)
    labels, options = torch.tensor([0, 1, 1]), {"steps": 3, "method": "euler"}
    images = model.sample(3, torch_generator(0, "z"), labels, options=options)
    again = convae.load(convae.save(model, tmp_path / "model"))
    assert torch.equal(again.sample(3, torch_generator(0, "z"), labels, options=options), images)
    posterior = model.encode(torch.rand(3, 1, 8, 8))
    assert posterior.kl().isfinite().all()
    with pytest.raises(ConfigError, match="method"):
        model.sample(3, options={"method": "rk4"})
    with pytest.raises(ConfigError, match="transformer"):
        FlowMatching(Codes((4, 2), quantizer={"fsq": {"levels": [3]}}))
