"""Every likelihood against torch.distributions in float64, its gradients, its extremes and its samples."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from narrow import present
from torch import Tensor, distributions

from convae.core.errors import ShapeError
from convae.core.output import Likelihood
from convae.core.random import torch_generator
from convae.model.likelihoods.base import LikelihoodHead, Link, apply_link, soft_lower_bound
from convae.model.likelihoods.bernoulli import Bernoulli, BernoulliLikelihood
from convae.model.likelihoods.categorical import Categorical
from convae.model.likelihoods.discretized_logistic import DiscretizedLogistic, DiscretizedLogisticLikelihood
from convae.model.likelihoods.gaussian import Gaussian, GaussianLikelihood
from convae.model.likelihoods.laplace import Laplace, LaplaceLikelihood
from convae.model.likelihoods.student_t import StudentT, StudentTLikelihood

Make = Callable[[Tensor], Likelihood]
WAYS: dict[str, Make] = {
    "bernoulli": lambda raw: BernoulliLikelihood(raw),
    "gaussian": lambda raw: GaussianLikelihood(raw, raw.new_tensor(-1.7)),
    "gaussian-pixel": lambda raw: GaussianLikelihood(raw, raw * 0.1 - 2),
    "laplace": lambda raw: LaplaceLikelihood(raw, raw.new_tensor(-1.7)),
    "laplace-pixel": lambda raw: LaplaceLikelihood(raw, raw * 0.1 - 2),
    "student-t": lambda raw: StudentTLikelihood(raw, raw.new_tensor(-3.0), 5.0),
    "discretized-logistic": lambda raw: DiscretizedLogisticLikelihood(raw, raw.new_tensor(-3.0), 256),
    "discretized-logistic-pixel": lambda raw: DiscretizedLogisticLikelihood(raw, raw * 0.1 - 3, 256),
}
every_way = pytest.mark.parametrize("make", WAYS.values(), ids=WAYS)


def values(*shape: int, low: float = -0.3, high: float = 1.3) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=torch_generator(0, "values"), dtype=torch.float64)


def levels(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, generator=torch_generator(1, "levels")).double() / 255


@every_way
@pytest.mark.parametrize("channels", [1, 2])
def test_weights_multiply_the_log_probability_of_each_value(make: Make, channels: int) -> None:
    raw, x = values(4, 2, 3, 3), levels(4, 2, 3, 3)
    weights = levels(4, channels, 3, 3) * 2
    wanted = (make(raw).log_prob_values(x) * weights).flatten(1).sum(1)
    torch.testing.assert_close(make(raw).log_prob(x, weights), wanted, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(make(raw).log_prob(x), make(raw).log_prob_values(x).flatten(1).sum(1), rtol=1e-9, atol=0)


def test_bernoulli_is_that_of_torch_for_bits() -> None:
    logits, x = values(4, 2, 3, 3, low=-8, high=8), (levels(4, 2, 3, 3) > 0.5).double()
    wanted = distributions.Bernoulli(logits=logits).log_prob(x).flatten(1).sum(1)
    torch.testing.assert_close(BernoulliLikelihood(logits).log_prob(x), wanted, rtol=1e-6, atol=0)


def test_bernoulli_of_gray_values_is_the_cross_entropy() -> None:
    logits, x = values(4, 2, 3, 3, low=-8, high=8), levels(4, 2, 3, 3)
    p = logits.sigmoid()
    wanted = (x * p.log() + (1 - x) * (1 - p).log()).flatten(1).sum(1)
    torch.testing.assert_close(BernoulliLikelihood(logits).log_prob(x), wanted, rtol=1e-6, atol=0)


@pytest.mark.parametrize("sigma", [0.0025, 0.1, math.sqrt(0.5), 3.0])
def test_gaussian_is_that_of_torch(sigma: float) -> None:
    raw, x = values(4, 2, 3, 3), levels(4, 2, 3, 3)
    wanted = distributions.Normal(raw, sigma).log_prob(x).flatten(1).sum(1)
    ours = Gaussian(sigma=sigma, link="identity")(raw).log_prob(x)
    torch.testing.assert_close(ours, wanted, rtol=1e-6, atol=0)


def test_a_sigma_of_root_half_is_the_sum_of_squares() -> None:
    raw, x = values(4, 2, 3, 3), levels(4, 2, 3, 3)
    ours = Gaussian(sigma=math.sqrt(0.5), link="identity")(raw).log_prob(x)
    squares = (raw - x).square().flatten(1).sum(1)
    torch.testing.assert_close(ours, -squares - 18 * math.log(math.pi) / 2, rtol=1e-9, atol=0)


@pytest.mark.parametrize("scale", [0.0025, 0.1, 3.0])
def test_laplace_is_that_of_torch(scale: float) -> None:
    raw, x = values(4, 2, 3, 3), levels(4, 2, 3, 3)
    wanted = distributions.Laplace(raw, scale).log_prob(x).flatten(1).sum(1)
    ours = Laplace(scale=scale, link="identity")(raw).log_prob(x)
    torch.testing.assert_close(ours, wanted, rtol=1e-6, atol=0)


@pytest.mark.parametrize("degrees", [1.0, 3.0, 100.0])
def test_student_t_is_that_of_torch(degrees: float) -> None:
    raw, x = values(4, 2, 3, 3), levels(4, 2, 3, 3)
    wanted = distributions.StudentT(degrees, raw, 0.2).log_prob(x).flatten(1).sum(1)
    ours = StudentT(degrees=degrees, scale=0.2, link="identity")(raw).log_prob(x)
    torch.testing.assert_close(ours, wanted, rtol=1e-6, atol=0)


def test_student_t_values_have_their_quantiles() -> None:
    drawn = StudentTLikelihood(torch.full((40000, 1, 1), 0.5), torch.tensor(-4.0), 3.0).sample(torch_generator(0)) - 0.5
    found = torch.quantile(drawn.flatten() * math.exp(4), torch.tensor([0.1, 0.25, 0.75, 0.9]))
    # The quantiles of Student's t distribution with 3 degrees of freedom, from tables.
    torch.testing.assert_close(found, torch.tensor([-1.638, -0.765, 0.765, 1.638]), atol=0.03, rtol=0)


def test_categorical_is_that_of_torch() -> None:
    raw = values(4, 10, 3, 3, low=-3, high=3)
    x = torch.randint(0, 5, (4, 2, 3, 3), generator=torch_generator(1)).double()
    theirs = distributions.Categorical(logits=raw.view(4, 2, 5, 3, 3).movedim(2, -1))
    ours = Categorical(levels=5)(raw)
    torch.testing.assert_close(ours.log_prob(x / 4), theirs.log_prob(x).flatten(1).sum(1), rtol=1e-6, atol=0)
    torch.testing.assert_close(ours.mean, (theirs.probs * torch.arange(5) / 4).sum(-1))
    many = Categorical(levels=5)(raw[:1].expand(20000, -1, -1, -1)).sample(torch_generator(0))
    assert many.unique().tolist() == [0, 0.25, 0.5, 0.75, 1]
    torch.testing.assert_close(many.mean(0), ours.mean[0], atol=0.02, rtol=0)


def test_laplace_values_have_their_spread() -> None:
    drawn = LaplaceLikelihood(torch.full((40000, 1, 1), 0.5), torch.tensor(-4.0)).sample(torch_generator(0)) - 0.5
    assert drawn.abs().mean().item() == pytest.approx(math.exp(-4), rel=0.02)
    assert drawn.square().mean().item() == pytest.approx(2 * math.exp(-8), rel=0.05)


def test_a_mean_beyond_the_range_is_cut_and_can_come_back() -> None:
    raw = torch.tensor([[[-0.4, 0.3, 1.7]]], requires_grad=True)
    mean = Gaussian(link="identity")(raw).mean
    mean.sum().backward()
    assert mean.flatten().tolist() == [0.0, pytest.approx(0.3), 1.0]
    assert present(raw.grad).tolist() == [[[1.0, 1.0, 1.0]]]


def logistic(location: Tensor, scale: Tensor) -> distributions.TransformedDistribution:
    uniform = distributions.Uniform(torch.zeros_like(location), torch.ones_like(location))
    ways = [distributions.SigmoidTransform().inv, distributions.AffineTransform(location, scale)]
    return distributions.TransformedDistribution(uniform, ways, validate_args=False)


@pytest.mark.parametrize("log_scale", [-4.0, -2.0, 0.5])
def test_discretized_logistic_is_the_mass_of_torchs_logistic(log_scale: float) -> None:
    location, x = values(4, 2, 3, 3, low=0, high=1), levels(4, 2, 3, 3)
    # Near the location, where a difference of two cumulative values still has all its digits.
    x = (location + (x - 0.5) * 4 * math.exp(log_scale)).clamp(0, 1).mul(255).round() / 255
    theirs = logistic(location, torch.full_like(location, math.exp(log_scale)))
    upper = torch.where(x == 1, 1, theirs.cdf(x + 0.5 / 255))
    lower = torch.where(x == 0, 0, theirs.cdf(x - 0.5 / 255))
    wanted = (upper - lower).log().flatten(1).sum(1)
    ours = DiscretizedLogisticLikelihood(location, location.new_tensor(log_scale), 256).log_prob(x)
    torch.testing.assert_close(ours, wanted, rtol=1e-6, atol=0)


@given(st.floats(-2, 3), st.floats(-7, 4), st.sampled_from([2, 3, 16, 256]))
def test_discretized_logistic_sums_to_one_over_its_levels(location: float, log_scale: float, count: int) -> None:
    x = torch.linspace(0, 1, count, dtype=torch.float64).reshape(count, 1, 1)
    where = torch.full_like(x, location)
    masses = DiscretizedLogisticLikelihood(where, where.new_tensor(log_scale), count).log_prob(x).exp()
    assert masses.sum().item() == pytest.approx(1, rel=1e-9)


@every_way
def test_gradients_are_right(make: Make) -> None:
    raw, x = values(2, 1, 3).requires_grad_(), levels(2, 1, 3)
    assert torch.autograd.gradcheck(lambda raw: make(raw).log_prob(x), (raw,))


@every_way
@pytest.mark.parametrize("size", [30.0, -30.0])
def test_extreme_values_give_finite_figures_and_gradients(make: Make, size: float) -> None:
    raw = torch.full((2, 1, 3), size, requires_grad=True)
    x = torch.tensor([0.0, 0.5, 1.0]).expand(2, 1, 3)
    ours = make(raw).log_prob(x)
    ours.sum().backward()
    assert ours.isfinite().all()
    assert raw.grad is not None
    assert raw.grad.isfinite().all()


@pytest.mark.parametrize(
    "head",
    [
        Bernoulli(),
        *(Gaussian(sigma=sigma) for sigma in ("learned", "pixel")),
        *(Laplace(scale=scale) for scale in ("learned", "pixel")),
        *(StudentT(scale=scale) for scale in ("learned", "pixel")),
        Categorical(levels=3),
        *(DiscretizedLogistic(scale=scale) for scale in ("learned", "pixel")),
    ],
    ids=lambda head: f"{type(head).__name__}-{getattr(head, 'scale', '')}",
)
@pytest.mark.parametrize("size", [1e4, -1e4])
def test_a_head_lets_no_extreme_value_through(head: LikelihoodHead, size: float) -> None:
    for parameter in head.parameters():
        torch.nn.init.constant_(parameter, -100.0)
    raw = torch.full((2, head.raw_channels(1), 3), size, requires_grad=True)
    ours = head(raw).log_prob(torch.tensor([0.0, 0.5, 1.0]).expand(2, 1, 3))
    ours.sum().backward()
    assert ours.isfinite().all()
    for tensor in (raw, *head.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()


@every_way
def test_samples_reproduce_the_mean_and_the_seed(make: Make) -> None:
    raw = torch.tensor([0.4, 0.5, 0.6]).reshape(1, 3, 1).expand(20000, 3, 1)
    belief = make(raw)
    drawn = belief.sample(torch_generator(5))
    assert torch.equal(drawn, belief.sample(torch_generator(5)))
    assert not torch.equal(drawn, belief.sample(torch_generator(6)))
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    torch.testing.assert_close(drawn.mean(0), belief.mean[0], atol=0.012, rtol=0)


def test_samples_of_discrete_likelihoods_are_levels() -> None:
    drawn = DiscretizedLogisticLikelihood(torch.rand(9, 1, 4), torch.tensor(-2.0), 256).sample(torch_generator(0))
    torch.testing.assert_close(drawn * 255, (drawn * 255).round(), atol=1e-4, rtol=0)
    assert set(Bernoulli()(torch.zeros(9, 1, 4)).sample(torch_generator(0)).unique().tolist()) == {0.0, 1.0}


@every_way
def test_an_image_of_another_shape_is_refused_not_broadcast(make: Make) -> None:
    with pytest.raises(ShapeError, match="2×1×3×3, got 2×3×3"):
        make(values(2, 1, 3, 3)).log_prob(levels(2, 3, 3))


@pytest.mark.parametrize("link", ["sigmoid", "tanh"])
def test_links_reach_zero_and_one(link: Link) -> None:
    assert apply_link(torch.tensor([-50.0, 0.0, 50.0]), link).tolist() == pytest.approx([0.0, 0.5, 1.0])


def test_what_is_held_above_a_bound_keeps_its_gradient() -> None:
    value = torch.tensor([-8.0, -6.0, 5.0], requires_grad=True)
    held = soft_lower_bound(value, -6.0)
    held.sum().backward()
    assert (held > -6).all()
    assert held[2].item() == pytest.approx(5, abs=1e-3)
    assert (present(value.grad) > 0.05).all()
