"""Terms of the latent: against closed forms, Monte Carlo with error bars, and the formulas of their papers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from convae.core.errors import ConfigError
from convae.core.joint_posterior import JointPosterior
from convae.core.posterior import GaussianPosterior, Posterior
from convae.core.random import torch_generator
from convae.core.types import Batch
from convae.objective.objective import build_objective
from convae.objective.schedules.base import Moment
from convae.objective.terms.base import LossInputs
from convae.objective.terms.capacity import Capacity
from convae.objective.terms.classification import Classification
from convae.objective.terms.free_bits import FreeBits
from convae.objective.terms.kl import KL
from convae.objective.terms.sparse import Sparse

IMAGES = torch.zeros(4, 1, 2, 2, dtype=torch.float64)


@pytest.fixture
def posterior(drawn: Any) -> tuple[Tensor, Tensor]:
    """RunningMeans and log-variances of latent vectors: 4 images, 6 values."""
    return drawn(4, 6, word="m", low=-2, high=2), drawn(4, 6, word="v", low=-3, high=1)


def test_kl_is_that_of_torch_and_never_contains_its_weight(posterior: Any, passed: Any) -> None:
    mean, logvar = posterior
    given = passed(IMAGES, mean=mean, logvar=logvar)
    normal = torch.distributions.Normal
    wanted = torch.distributions.kl_divergence(normal(mean, (logvar / 2).exp()), normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(KL()(given), wanted)
    losses = build_objective({"kl": {"weight": 5}})(Batch.of(given.images, given.labels), given.output, given.moment)
    torch.testing.assert_close(losses.terms["kl"], wanted)
    torch.testing.assert_close(losses.total, 5 * wanted.mean())


def test_kl_agrees_with_monte_carlo(posterior: Any, passed: Any) -> None:
    draws = 4000
    mean, logvar = (tensor.repeat(draws, 1) for tensor in posterior)
    belief = passed(IMAGES, mean=mean, logvar=logvar).output.posterior
    z = belief.sample(torch_generator(3))
    prior = -0.5 * (z.square() + math.log(2 * math.pi)).sum(1)
    drawn = (belief.log_prob(z) - prior).reshape(draws, 4)
    given = passed(IMAGES, mean=posterior[0], logvar=posterior[1])
    error = drawn.std(0) / math.sqrt(draws)
    assert ((drawn.mean(0) - KL()(given)).abs() < 4 * error).all()
    assert (error < 0.1 * KL()(given)).all()


@pytest.mark.parametrize(
    "term",
    [KL(), Sparse(), FreeBits(nats=0.7), FreeBits(nats=1.5, groups=2, mean_over_batch=False), Capacity(nats=4.0)],
    ids=lambda term: type(term).__name__,
)
def test_gradients_are_right(term: Any, posterior: Any, passed: Any) -> None:
    mean, logvar = (tensor.requires_grad_() for tensor in posterior)
    assert torch.autograd.gradcheck(lambda m, v: term(passed(IMAGES, mean=m, logvar=v)).mean(), (mean, logvar))


def test_sparse_is_the_mean_of_the_absolute_posterior_mean(passed: Any) -> None:
    mean = torch.tensor([[1.0, -3.0, 0.5, 0.0]] * 4, dtype=torch.float64)
    assert Sparse()(passed(IMAGES, mean=mean)).tolist() == [1.125] * 4
    assert Sparse()(passed(IMAGES, mean=mean.reshape(4, 1, 2, 2))).tolist() == [1.125] * 4


@pytest.mark.parametrize("groups", [None, 1, 2, 3, 6])
def test_free_bits_over_the_batch_are_those_of_the_paper(groups: int | None, posterior: Any, passed: Any) -> None:
    given = passed(IMAGES, mean=posterior[0], logvar=posterior[1])
    term = FreeBits(nats=1.1, groups=groups)
    parts = given.output.posterior.kl_values().chunk(groups or 6, dim=1)
    wanted = sum(max(1.1, part.sum(1).mean().item()) for part in parts)
    assert term(given).mean().item() == pytest.approx(wanted, rel=1e-12)


def test_free_bits_of_each_image(posterior: Any, passed: Any) -> None:
    given = passed(IMAGES, mean=posterior[0], logvar=posterior[1])
    wanted = given.output.posterior.kl_values().clamp_min(0.8).sum(1)
    torch.testing.assert_close(FreeBits(nats=0.8, mean_over_batch=False)(given), wanted)


def test_without_an_allowance_free_bits_are_the_kl(posterior: Any, passed: Any) -> None:
    given = passed(IMAGES, mean=posterior[0], logvar=posterior[1])
    torch.testing.assert_close(FreeBits(nats=0.0)(given), KL()(given))


def test_a_latent_within_its_allowance_is_left_alone(passed: Any) -> None:
    mean = torch.tensor([[0.1, 3.0]] * 4, dtype=torch.float64, requires_grad=True)
    FreeBits(nats=0.5)(passed(IMAGES, mean=mean)).sum().backward()
    assert mean.grad is not None
    assert mean.grad.tolist() == [[0.0, 3.0]] * 4


def test_the_groups_of_a_latent_map_are_its_channels(passed: Any, drawn: Any) -> None:
    mean = drawn(4, 2, 3, 3, low=-0.4, high=0.4)
    mean[:, 1] *= 5
    given = passed(IMAGES, mean=mean)
    channels = given.output.posterior.kl_values().sum((2, 3)).mean(0)
    assert channels[0] < 1 < channels[1]
    assert FreeBits(nats=1.0)(given).mean().item() == pytest.approx(1 + channels[1].item())
    assert FreeBits(nats=1.0, groups=1)(given).mean().item() == pytest.approx(channels.sum().item())


def test_groups_that_are_not_equal_are_refused(posterior: Any, passed: Any) -> None:
    with pytest.raises(ConfigError, match=r"6 latent channels .* 4 equal groups"):
        FreeBits(groups=4)(passed(IMAGES, mean=posterior[0]))


def test_free_bits_need_a_posterior_that_falls_into_values(passed: Any) -> None:
    class Whole(Posterior):
        """A posterior whose KL is one number for each image."""

        mean = logvar = IMAGES.flatten(1)

        def sample(self, generator: Any = None) -> Tensor:
            return self.mean

        def kl(self) -> Tensor:
            return self.mean.sum(1)

        def log_prob(self, z: Tensor) -> Tensor:
            return self.mean.sum(1)

        log_prior = log_prob

    given = passed(IMAGES)
    output = type(given.output)(Whole(), given.output.latent, given.output.likelihood)
    with pytest.raises(ConfigError, match="sum over latent values"):
        FreeBits()(LossInputs(IMAGES, None, output, given.moment))


def two_latents(requires_grad: bool = True) -> JointPosterior:
    """KL divergences of 0.5·(1, 4) nats in 1 value and 0.5·(0, 0.04) nats in 4 values."""
    top = torch.tensor([[1.0], [2.0]], requires_grad=requires_grad)
    low = torch.tensor([[0.0] * 4, [0.1] * 4], requires_grad=requires_grad)
    parts = {name: GaussianPosterior(mean, torch.zeros_like(mean)) for name, mean in (("a", top), ("b", low))}
    return JointPosterior(parts, lambda _: torch.cat([top, low], 1))


def joint_inputs(passed: Any, posterior: JointPosterior) -> LossInputs:
    given = passed(IMAGES[:2])
    return LossInputs(
        IMAGES[:2], None, type(given.output)(posterior, posterior.mean, given.output.likelihood), given.moment
    )


def test_balance_weighs_latents_by_their_values_and_their_mean_divergence(passed: Any) -> None:
    inputs = joint_inputs(passed, two_latents())
    each = torch.stack([part.kl() for part in two_latents().parts.values()], 1)
    torch.testing.assert_close(KL()(inputs), each.sum(1))
    factors = (each.mean(0) + 0.01) * torch.tensor([1.0, 4.0])
    expected = (each * 2 * factors / factors.sum()).sum(1)
    torch.testing.assert_close(KL(balance=True)(inputs), expected)
    # Metrics without gradients are plain divergences.
    plain = joint_inputs(passed, two_latents(requires_grad=False))
    torch.testing.assert_close(KL(balance=True)(plain), each.sum(1).detach())


def test_free_bits_are_given_to_each_latent_of_a_hierarchy(passed: Any) -> None:
    inputs = joint_inputs(passed, two_latents())
    top, low = (part.kl() for part in two_latents().parts.values())
    # The mean of the second latent, 0.01 nats, is below its free nats; that of the first is 1.25.
    torch.testing.assert_close(FreeBits(nats=0.5, groups=1)(inputs), top + 0.5)
    torch.testing.assert_close(FreeBits(nats=0.005, groups=1)(inputs), top + low)


def test_capacity_is_the_distance_of_the_kl_from_a_growing_capacity(posterior: Any, passed: Any) -> None:
    term = build_objective({"capacity": {"nats": {"linear": {"end": 25, "steps": 100}}}}).terms["capacity"]
    for step in (0, 20, 100, 200):
        given = passed(IMAGES, mean=posterior[0], logvar=posterior[1], moment=Moment(step, step / 10, step / 200))
        torch.testing.assert_close(term(given), (KL()(given) - min(step, 100) / 4).abs())


def test_classification_is_averaged_over_the_labeled_images(passed: Any, drawn: Any) -> None:
    logits, labels = drawn(4, 3, low=-4, high=4).requires_grad_(), torch.tensor([2, -1, 0, -1])
    term = Classification()
    values = term(passed(IMAGES, labels=labels, logits=logits))
    torch.testing.assert_close(values.mean(), F.cross_entropy(logits[[0, 2]], labels[[0, 2]]))
    assert values[[1, 3]].tolist() == [0, 0]
    (gradient,) = torch.autograd.grad(values.mean(), logits)
    (wanted,) = torch.autograd.grad(F.cross_entropy(logits[[0, 2]], labels[[0, 2]]), logits)
    torch.testing.assert_close(gradient, wanted)
    assert torch.autograd.gradcheck(lambda given: term(passed(IMAGES, labels=labels, logits=given)), (logits,))


def test_a_batch_without_any_label_costs_nothing(passed: Any, drawn: Any) -> None:
    logits, labels = drawn(4, 3).requires_grad_(), torch.full((4,), -1)
    values = Classification()(passed(IMAGES, labels=labels, logits=logits))
    values.mean().backward()
    assert values.tolist() == [0] * 4
    assert logits.grad is not None
    assert not logits.grad.any()


def test_classification_says_what_it_lacks(passed: Any, drawn: Any) -> None:
    with pytest.raises(ConfigError, match="the data has no labels"):
        Classification()(passed(IMAGES, logits=drawn(4, 3)))
    with pytest.raises(ConfigError, match="the model has no classifier"):
        Classification()(passed(IMAGES, labels=torch.zeros(4, dtype=torch.int64)))
