from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import distributions

from convae.core.context import Context
from convae.core.errors import ShapeError
from convae.core.posterior import MIN_LOGVAR, GaussianPosterior
from convae.core.random import torch_generator
from convae.model.bottlenecks.gaussian import MAX_LOGVAR, Gaussian
from convae.model.priors.standard_normal import StandardNormal


def posterior(scale: float = 1.0, shape: tuple[int, ...] = (5, 3, 2, 4)) -> GaussianPosterior:
    mean, logvar = scale * torch.randn(2, *shape, generator=torch_generator(0, "posterior"), dtype=torch.float64)
    return GaussianPosterior(mean, logvar)


def oracle(ours: GaussianPosterior) -> distributions.Normal:
    return distributions.Normal(ours.mean, torch.exp(0.5 * ours.logvar))


@given(st.floats(-50, 50), st.floats(MIN_LOGVAR, MAX_LOGVAR))
def test_kl_is_that_of_torch(mean: float, logvar: float) -> None:
    ours = GaussianPosterior(torch.full((1, 2), mean).double(), torch.full((1, 2), logvar).double())
    prior = distributions.Normal(torch.zeros(1, 2).double(), torch.ones(1, 2).double())
    wanted = distributions.kl_divergence(oracle(ours), prior).sum(1)
    # torch's own value is a difference of numbers near one, so it is exact to about 1e-15 of them.
    torch.testing.assert_close(ours.kl(), wanted, rtol=1e-6, atol=1e-12)


def test_kl_keeps_its_digits_near_the_prior() -> None:
    tiny = torch.full((1, 1), 1e-4)
    kl = GaussianPosterior(torch.zeros(1, 1), tiny).kl()
    assert kl.item() == pytest.approx(0.25e-8, rel=1e-3)


def test_log_prob_is_that_of_torch_and_kl_is_their_expected_difference() -> None:
    ours = posterior()
    z = ours.sample(torch_generator(1, "z"))
    torch.testing.assert_close(ours.log_prob(z), oracle(ours).log_prob(z).flatten(1).sum(1), rtol=1e-9, atol=0)
    prior = distributions.Normal(0.0, 1.0).log_prob(z).flatten(1).sum(1)
    torch.testing.assert_close(StandardNormal(Gaussian((3,), latent=2)).log_prob(z), prior, rtol=1e-9, atol=0)


def test_gradients_are_right() -> None:
    mean, logvar = posterior(shape=(2, 3)).mean.requires_grad_(), posterior(shape=(2, 3)).logvar.requires_grad_()
    z = torch.randn(2, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda m, v: GaussianPosterior(m, v).kl(), (mean, logvar))
    assert torch.autograd.gradcheck(lambda m, v: GaussianPosterior(m, v).log_prob(z), (mean, logvar))


def test_extreme_features_give_finite_figures_and_gradients() -> None:
    bottleneck = Gaussian((4, 1), latent=2, head=False)
    features = torch.tensor([[1e4, -1e4, 1e6, -1e6]]).reshape(1, 4, 1).requires_grad_()
    context = Context(torch_generator(0), latent_source="posterior")
    latent = bottleneck(features, context)
    kl = context.posteriors["latent"].kl()
    kl.sum().backward()
    assert kl.isfinite().all()
    assert latent.isfinite().all()
    assert features.grad is not None
    assert features.grad.isfinite().all()


def test_samples_have_the_posteriors_moments_and_follow_the_seed() -> None:
    ours = GaussianPosterior(torch.full((20000, 2), 3.0), torch.full((20000, 2), math.log(4)))
    drawn = ours.sample(torch_generator(2))
    assert drawn.mean().item() == pytest.approx(3, abs=0.05)
    assert drawn.std().item() == pytest.approx(2, abs=0.05)
    assert torch.equal(drawn, ours.sample(torch_generator(2)))
    assert not torch.equal(drawn, ours.sample(torch_generator(3)))


@pytest.mark.parametrize("shape", [(6,), (6, 5), (6, 5, 4), (6, 3, 2, 4)])
def test_a_vector_gives_a_vector_and_a_map_gives_a_map(shape: tuple[int, ...]) -> None:
    bottleneck = Gaussian(shape, latent=3)
    torch.nn.init.normal_(bottleneck.weight)
    torch.nn.init.normal_(bottleneck.bias)
    features = torch.randn(2, *shape)
    assert bottleneck.posterior(features).mean.shape == (2, 3, *shape[1:])
    assert StandardNormal(bottleneck).sample(4, torch_generator(0)).shape == (4, 3, *shape[1:])
    flat = features.movedim(1, -1) @ bottleneck.weight.T + bottleneck.bias
    wanted = flat.movedim(-1, 1)[:, :3]
    torch.testing.assert_close(bottleneck.posterior(features).mean, wanted)


def test_half_precision_features_give_single_precision_posteriors() -> None:
    assert Gaussian((4,), latent=2, head=False).posterior(torch.ones(1, 4, dtype=torch.bfloat16)).mean.dtype == (
        torch.float32
    )


def test_without_a_head_the_channels_must_be_twice_the_latent() -> None:
    with pytest.raises(ShapeError, match=r"6 feature channels.*4×2×2"):
        Gaussian((4, 2, 2), latent=3, head=False)


def test_a_generator_for_each_image_draws_its_latent_whatever_it_is_batched_with() -> None:
    posterior = GaussianPosterior(torch.zeros(5, 3), torch.zeros(5, 3))
    drawn = posterior.sample([torch_generator(0, index) for index in range(5)])
    alone = GaussianPosterior(torch.zeros(1, 3), torch.zeros(1, 3)).sample([torch_generator(0, 3)])
    assert torch.equal(drawn[3:4], alone)
    assert len(drawn.unique()) == 15


def test_another_number_of_generators_than_images_is_refused() -> None:
    with pytest.raises(ShapeError, match="2 latents, got 1"):
        GaussianPosterior(torch.zeros(2, 3), torch.zeros(2, 3)).sample([torch_generator(0)])


@pytest.mark.parametrize("bound", [0.0, 5.0, 40.0])
def test_no_log_variance_goes_beyond_its_bound_and_all_are_led_back(bound: float) -> None:
    bottleneck = Gaussian((2, 1), head=False, max_logvar=bound)
    features = torch.tensor([[0.0, 1e6]]).reshape(1, 2, 1).requires_grad_()
    found = bottleneck.posterior(features)
    assert found.logvar.max() == bound
    found.kl().sum().backward()
    assert features.grad is not None
    assert features.grad[0, 1] == pytest.approx(0.5 * math.expm1(bound))
