"""The von Mises-Fisher posterior: closed forms, scipy, and the authors' formulas; and models with it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
import torch
from torch import Tensor

import convae
from convae.core.errors import ConfigError, ShapeError
from convae.core.noise import CountedNoise
from convae.core.random import torch_generator
from convae.model.posteriors.von_mises_fisher import VonMisesFisherPosterior, log_area
from convae.model.vae import VAE
from convae.objective import build_objective

DIMENSIONS = [2, 3, 4, 8, 17, 64, 256]
CONCENTRATIONS = [0.0, 1e-4, 0.1, 1.0, 10.0, 300.0, 10_000.0]
IMAGES = torch.rand(5, 1, 8, 8, generator=torch_generator(0, "images"))


def posterior(dimension: int, concentration: float, count: int = 1, dtype: torch.dtype = torch.float64) -> Any:
    mean = torch.zeros(count, dimension, dtype=dtype)
    mean[:, 0] = 1
    return VonMisesFisherPosterior(mean, torch.full((count,), concentration, dtype=dtype, requires_grad=True))


def exact(dimension: int, concentration: float) -> tuple[float, float, float]:
    """KL divergence, its derivative, and the length of the expectation, with 50 digits."""
    mpmath.mp.dps = 50
    order, kappa = mpmath.mpf(dimension) / 2 - 1, mpmath.mpf(concentration)
    if not concentration:
        return 0.0, 0.0, 0.0
    length = mpmath.besseli(order + 1, kappa) / mpmath.besseli(order, kappa)
    # log of the normalizing constant, as in the paper, and of the area of the sphere.
    constant = order * mpmath.log(kappa) - (order + 1) * mpmath.log(2 * mpmath.pi)
    constant -= mpmath.log(mpmath.besseli(order, kappa))
    area = mpmath.log(2) + (order + 1) * mpmath.log(mpmath.pi) - mpmath.loggamma(order + 1)
    slope = kappa * (1 - length**2 - (dimension - 1) / kappa * length)
    return float(kappa * length + constant + area), float(slope), float(length)


@pytest.mark.parametrize("dimension", DIMENSIONS)
@pytest.mark.parametrize("concentration", CONCENTRATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_divergence_and_its_gradient_are_exact(dimension: int, concentration: float, dtype: torch.dtype) -> None:
    own = posterior(dimension, concentration, dtype=dtype)
    kl = own.kl()
    (slope,) = torch.autograd.grad(kl, own.concentration)
    expected, expected_slope, length = exact(dimension, concentration)
    rounding = 1e-6 if dtype == torch.float32 else 1e-8
    assert kl.item() == pytest.approx(expected, rel=rounding, abs=1e-8)
    assert slope.item() == pytest.approx(expected_slope, rel=max(rounding, 1e-6), abs=1e-8)
    assert own.log_prob(own.mean).item() - own.log_prob(-own.mean).item() == pytest.approx(
        2 * concentration, rel=1e-6, abs=1e-5 if dtype == torch.float64 else 1e-3
    )
    assert own.logvar.isfinite().all()
    assert length <= 1


@pytest.mark.parametrize(("dimension", "concentration"), [(3, 0.5), (3, 20.0), (5, 7.0), (16, 40.0)])
def test_the_density_is_that_of_scipy(dimension: int, concentration: float) -> None:
    own = posterior(dimension, concentration, 6)
    z = torch.nn.functional.normalize(
        torch.randn(6, dimension, generator=torch_generator(0, "z"), dtype=torch.float64), dim=1
    )
    mean = np.eye(dimension)[0]
    expected = scipy.stats.vonmises_fisher(mean, concentration).logpdf(z.numpy())
    np.testing.assert_allclose(own.log_prob(z).detach().numpy(), expected, rtol=1e-7)
    entropy = scipy.stats.vonmises_fisher(mean, concentration).entropy()
    assert own.kl()[0].item() == pytest.approx(log_area(dimension) - float(entropy), rel=1e-6)
    assert own.log_prior(z)[0].item() == pytest.approx(-log_area(dimension))


@pytest.mark.parametrize("dimension", [2, 3, 8, 64])
@pytest.mark.parametrize("concentration", [0.0, 1.0, 30.0, 3000.0])
def test_samples_are_of_the_distribution_with_the_gradient_of_their_mean(dimension: int, concentration: float) -> None:
    count = 20_000 if dimension < 64 else 5_000  # whose values take most of the time
    own = posterior(dimension, concentration, count)
    z = own.sample(torch_generator(0, "z"))
    torch.testing.assert_close(z.norm(dim=1), torch.ones(count, dtype=torch.float64))
    along = z[:, 0]
    _, _, length = exact(dimension, concentration)
    (slopes,) = torch.autograd.grad(along.sum(), own.concentration)
    along = along.detach()
    assert float(along.mean()) == pytest.approx(length, abs=4.5 * float(along.std()) / math.sqrt(count))
    rate = 1 / dimension if not concentration else 1 - length**2 - (dimension - 1) / concentration * length
    assert float(slopes.mean()) == pytest.approx(rate, abs=4.5 * float(slopes.std()) / math.sqrt(count))
    # The whole distribution of the angle, by its distribution function.
    angles = torch.acos(along.clamp(-1, 1)).numpy()
    grid = np.linspace(0, np.pi, 20_001)[1:-1]
    log_density = concentration * (np.cos(grid) - 1) + (dimension - 2) * np.log(np.sin(grid))
    distribution = np.cumsum(np.exp(log_density - log_density.max()))
    uniform = np.interp(angles, grid, distribution / distribution[-1])
    assert scipy.stats.kstest(uniform, "uniform").pvalue > 1e-4
    torch.testing.assert_close(own.logvar[0].exp().detach(), z.detach().var(0), rtol=0.1, atol=1e-9)


def test_the_gradient_is_that_of_the_inverse_distribution_function() -> None:
    # On S² it has a closed form: w = 1 + log(u + (1 − u) exp(−2κ)) / κ.
    concentration = torch.linspace(0.5, 60, 400, dtype=torch.float64).requires_grad_()
    mean = torch.tensor([1.0, 0, 0], dtype=torch.float64).expand(400, 3)
    drawn = VonMisesFisherPosterior(mean, concentration).sample(torch_generator(0, "z"))[:, 0]
    (found,) = torch.autograd.grad(drawn.sum(), concentration)
    with torch.no_grad():
        ends = torch.exp(-2 * concentration)
        uniform = (torch.exp(concentration * (drawn - 1)) - ends) / (1 - ends)
    inverse = 1 + torch.log(uniform + (1 - uniform) * torch.exp(-2 * concentration)) / concentration
    torch.testing.assert_close(inverse.detach(), drawn.detach())
    (expected,) = torch.autograd.grad(inverse.sum(), concentration)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("dimension", [2, 5, 64])
def test_the_sampler_accepts_most_proposals(dimension: int) -> None:
    # Wood's rejection sampler, as in the authors' code: the rate of acceptance that the number of proposals relies on.
    generator = np.random.default_rng(0)
    for kappa in (0.1, 3.0, 100.0, 10_000.0):
        size = dimension - 1
        b = size / (math.sqrt(4 * kappa**2 + size**2) + 2 * kappa)
        a = (size + 2 * kappa + math.sqrt(4 * kappa**2 + size**2)) / 4
        d = 4 * a * b / (1 + b) - size * math.log(size)
        epsilon = generator.beta(size / 2, size / 2, 20_000)
        t = 2 * a * b / (1 - (1 - b) * epsilon)
        accepted = size * np.log(t) - t + d >= np.log(generator.uniform(size=20_000))
        assert accepted.mean() > 0.64


def test_noise_is_counted_by_image_and_the_direction_has_a_gradient() -> None:
    mean = torch.nn.functional.normalize(torch.randn(6, 4, generator=torch_generator(0, "mean")), dim=1)
    mean.requires_grad_()
    own = VonMisesFisherPosterior(mean, torch.full((6,), 5.0))
    z = own.sample(CountedNoise(0, ("latent",), 0, 6))
    part = VonMisesFisherPosterior(mean[2:4], torch.full((2,), 5.0)).sample(CountedNoise(0, ("latent",), 2, 6))
    torch.testing.assert_close(z[2:4], part)
    each = own.sample([torch_generator(0, number) for number in range(6)])
    torch.testing.assert_close(
        VonMisesFisherPosterior(mean[3:4], torch.full((1,), 5.0)).sample([torch_generator(0, 3)]), each[3:4]
    )
    (gradient,) = torch.autograd.grad(z.sum(), mean)
    assert gradient.isfinite().all()
    assert gradient.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_divergence_has_the_same_gradient_after_a_sample(dtype: torch.dtype) -> None:
    fresh, sampled = (posterior(5, 3.0, dtype=dtype) for _ in range(2))
    sampled.sample(torch_generator(0, "noise"))
    gradients = [torch.autograd.grad(each.kl().sum(), each.concentration)[0] for each in (fresh, sampled)]
    assert gradients[0].equal(gradients[1])


def built(latent: int = 3, **more: Any) -> VAE:
    return convae.build(
        {
            "input": [1, 8, 8],
            "encoder": [{"conv": {"channels": 4, "stride": 2}}, "silu", "flatten"],
            "bottleneck": {"von-mises-fisher": {"latent": latent}},
            "decoder": [{"linear": {"features": 64}}, {"unflatten": {"to": [1, 8, 8]}}],
            **more,
        }
    )


def test_a_model_trains_on_the_sphere(tmp_path: Path) -> None:
    model = built().train()
    objective = build_objective({"reconstruction": 1, "kl": 1})
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    totals = []
    for step in range(40):
        with torch.autocast("cpu", torch.bfloat16):
            output = model(IMAGES, torch_generator(0, "noise", step))
        torch.testing.assert_close(output.latent.norm(dim=1), torch.ones(5))
        assert output.posterior.kl().dtype == torch.float32
        total = objective(IMAGES, output).total
        optimizer.zero_grad()
        total.backward()
        assert all(each.grad is not None and each.grad.isfinite().all() for each in model.parameters())
        optimizer.step()
        totals.append(float(total.detach()))
    assert sum(totals[-5:]) < sum(totals[:5])
    again = convae.load(convae.save(model.eval(), tmp_path / "model"))
    assert torch.equal(again.encode(IMAGES).mean, model.encode(IMAGES).mean)
    weights = model(IMAGES, torch_generator(0, "noise")).log_weights(IMAGES)
    assert weights.isfinite().all()
    drawn = model.sample_latents(5, torch_generator(0, "z"))
    torch.testing.assert_close(drawn.norm(dim=1), torch.ones(5))
    torch.testing.assert_close(model.prior.log_prob(drawn), torch.full((5,), -math.log(4 * math.pi)))
    torch.testing.assert_close(model.nearest_latents(2 * drawn), drawn)


def test_the_constant_norm_of_latents_is_no_term() -> None:
    objective = build_objective({"reconstruction": 1, "latent-norm": 1})
    with pytest.raises(ConfigError, match=r"objective\.latent-norm"):
        objective(IMAGES, built()(IMAGES))


def test_the_bound_is_that_of_an_integral_over_the_circle() -> None:
    model = built(2).double().eval()
    x = IMAGES[:1].double()

    def joint(angle: Tensor) -> Tensor:
        z = torch.stack([angle.cos(), angle.sin()], 1)
        return model.decode(z).log_prob(x.expand(len(z), -1, -1, -1)) - math.log(2 * math.pi)

    with torch.no_grad():
        grid = torch.arange(400, dtype=torch.float64) * (2 * math.pi / 400)
        evidence = float(torch.logsumexp(joint(grid), 0) + math.log(2 * math.pi / 400))
        output = model(x, torch_generator(0, "noise"), samples=4000)
        weights = output.log_weights(x.expand(4000, -1, -1, -1))
        relative = torch.exp(weights - evidence)
    assert float(relative.std()) < 10
    assert float(relative.mean()) == pytest.approx(1, abs=4 * float(relative.std()) / math.sqrt(4000))


def test_other_priors_and_bottlenecks_are_refused() -> None:
    for prior in ("standard-normal", "mixture", "flow", "gmm"):
        with pytest.raises(ConfigError, match="uniform-sphere"):
            built(prior=prior)
    with pytest.raises(ConfigError, match="von-mises-fisher"):
        built(bottleneck={"gaussian": {"latent": 3}}, prior="uniform-sphere")
    with pytest.raises(ShapeError, match="flatten"):
        built(encoder=[{"conv": {"channels": 4, "stride": 2}}])
