"""Terms of the aggregate posterior: against sums that are written out, and against all data."""

from __future__ import annotations

from itertools import combinations, permutations
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

import convae
from convae.core.errors import ConfigError
from convae.core.posterior import GaussianPosterior
from convae.core.random import torch_generator
from convae.core.types import Batch
from convae.objective.objective import build_objective
from convae.objective.terms._aggregate import aggregate_densities
from convae.objective.terms.base import LossInputs

IMAGES = torch.zeros(5, 1, 2, 2, dtype=torch.float64)


@pytest.fixture
def parts(drawn: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Means, log-variances and latents: 5 images, 3 values."""
    mean, logvar = drawn(5, 3, word="m", low=-2, high=2), drawn(5, 3, word="v", low=-2, high=1)
    return mean, logvar, mean + (0.5 * logvar).exp() * drawn(5, 3, word="e", low=-2, high=2)


def inputs_of(passed: Any, parts: tuple[Tensor, Tensor, Tensor], chosen: Any = slice(None)) -> LossInputs:
    mean, logvar, z = (each[chosen] for each in parts)
    given: LossInputs = passed(IMAGES[chosen], mean=mean, logvar=logvar)
    object.__setattr__(given.output, "latent", z)
    return given


def test_the_densities_of_all_data_are_exact(passed: Any, parts: Any) -> None:
    mean, logvar, z = parts
    found = aggregate_densities(inputs_of(passed, parts), "stratified", 5)
    each = Normal(mean, (0.5 * logvar).exp()).log_prob(z[:, None])
    torch.testing.assert_close(found.joint, each.sum(2).exp().mean(1).log())
    torch.testing.assert_close(found.product, each.exp().mean(1).log().sum(1))
    torch.testing.assert_close(found.posterior, GaussianPosterior(mean, logvar).log_prob(z))
    weighted = aggregate_densities(inputs_of(passed, parts), "weighted", 7)
    torch.testing.assert_close(weighted.joint, (each.sum(2).exp().sum(1) / 35).log())
    torch.testing.assert_close(weighted.product, (each.exp().sum(1) / 35).log().sum(1))


def test_the_stratified_estimate_is_unbiased(passed: Any, parts: Any) -> None:
    """The mean over all batches of three images that contain an image is q(z) at its latent."""
    exact = aggregate_densities(inputs_of(passed, parts), "stratified", 5).joint.exp()
    sums, counts = torch.zeros(5, dtype=torch.float64), torch.zeros(5)
    for chosen in map(list, combinations(range(5), 3)):
        found = aggregate_densities(inputs_of(passed, parts, chosen), "stratified", 5)
        sums[chosen] += found.joint.exp()
        counts[chosen] += 1
    torch.testing.assert_close(sums / counts, exact)


def test_the_stratified_weights_are_those_of_the_paper_averaged_over_the_order(passed: Any, parts: Any) -> None:
    mean, logvar, z = parts
    size, others = 90, 4
    weights = torch.full((5, 5), 1 / others, dtype=torch.float64)  # of the paper, appendix C.2
    for row in range(5):
        weights[row, (row + 1) % 5] = (size - others) / (size * others)
    weights.fill_diagonal_(1 / size)
    torch.testing.assert_close(weights.sum(1), torch.ones(5, dtype=torch.float64))
    orders = [list(order) for order in permutations(range(5))]
    averaged = torch.stack([weights[order][:, order] for order in orders]).mean(0)
    each = Normal(mean, (0.5 * logvar).exp()).log_prob(z[:, None])
    found = aggregate_densities(inputs_of(passed, parts), "stratified", size)
    torch.testing.assert_close(found.joint, (averaged * each.sum(2).exp()).sum(1).log())
    torch.testing.assert_close(found.product, (averaged[:, :, None] * each.exp()).sum(1).log().sum(1))


@pytest.mark.parametrize("estimator", ["stratified", "weighted"])
def test_three_terms_add_up_to_the_estimated_divergence(passed: Any, parts: Any, estimator: str) -> None:
    given = inputs_of(passed, parts)
    options = {"estimator": estimator, "images": 1000}
    names = ("mutual-information", "total-correlation", "dimension-kl")
    terms = build_objective(dict.fromkeys(names, options))(Batch.of(given.images), given.output).terms
    z, posterior = given.output.latent, given.posterior
    torch.testing.assert_close(sum(terms.values()), posterior.log_prob(z) - posterior.log_prior(z))


def test_the_number_of_images_is_that_of_the_data(passed: Any, parts: Any) -> None:
    given = inputs_of(passed, parts)
    objective = build_objective({"total-correlation": {}})
    with pytest.raises(ConfigError, match="images"):
        objective(Batch.of(given.images), given.output)
    batch = Batch(given.images, None, torch.arange(5), data_size=90)
    wanted = build_objective({"total-correlation": {"images": 90}})(batch, given.output)
    torch.testing.assert_close(objective(batch, given.output).total, wanted.total)


@pytest.mark.parametrize("kind", ["means", "latents"])
def test_dip_is_the_distance_of_the_covariance_from_the_identity(passed: Any, parts: Any, kind: str) -> None:
    mean, logvar, _ = parts
    covariance = torch.cov(mean.T, correction=0)
    if kind == "latents":
        covariance += torch.diag(logvar.exp().mean(0))
    off = (covariance - torch.diag(covariance.diagonal())).square().sum()
    wanted = off + 7 * (covariance.diagonal() - 1).square().sum()
    given = inputs_of(passed, parts)
    objective = build_objective({"dip": {"covariance": kind, "diagonal": 7}})
    terms = objective(Batch.of(given.images), given.output).terms
    torch.testing.assert_close(terms["dip"], wanted.expand(5))


SPEC: dict[str, Any] = {
    "input": [1, 4, 4],
    "encoder": ["flatten", {"linear": {"features": 6}}, "tanh"],
    "bottleneck": {"gaussian": {"latent": 2}},
    "decoder": [{"linear": {"features": 16}}, "tanh", {"unflatten": {"to": [1, 4, 4]}}],
    "likelihood": "gaussian",
}


def images(count: int) -> Tensor:
    return torch.rand(count, 1, 4, 4, generator=torch_generator(0, "images"), dtype=torch.float64)


@pytest.mark.parametrize("kernel", ["imq", "rbf"])
def test_mmd_is_the_mean_over_pairs(kernel: str) -> None:
    model = convae.build(SPEC).eval().double()
    output = model(images(6), torch_generator(0, "noise"))
    options = {"kernel": kernel, "bandwidth": 0.7, "scales": [0.5, 2.0]}
    again = model(images(6), torch_generator(0, "noise"))
    assert again.calls is not None
    prior, z = again.calls.sample_prior().double(), output.latent
    assert prior.shape == z.shape

    def k(a: Tensor, b: Tensor) -> Tensor:
        square, width = (a - b).square().sum(), 2 * 2 * 0.49
        if kernel == "rbf":
            return sum((torch.exp(-square / (width * s)) for s in (0.5, 2.0)), torch.zeros(()))
        return sum((width * s / (width * s + square) for s in (0.5, 2.0)), torch.zeros(()))

    pairs = [(i, j) for i in range(6) for j in range(6) if i != j]
    wanted = sum((k(z[i], z[j]) + k(prior[i], prior[j]) for i, j in pairs), torch.zeros(())) / 30
    wanted = wanted - 2 * sum((k(a, b) for a in z for b in prior), torch.zeros(())) / 36
    terms = build_objective({"mmd": options})(images(6), output).terms
    torch.testing.assert_close(terms["mmd"], wanted.expand(6))


def test_mmd_vanishes_where_latents_follow_the_prior() -> None:
    model = convae.build(SPEC).eval()
    with torch.no_grad():
        output = model(images(2000).float(), torch_generator(0, "noise"))
        far = build_objective({"mmd": {}})(images(2000), output).total
        assert output.calls is not None
        object.__setattr__(output, "latent", output.calls.sample_prior())
        near = build_objective({"mmd": {}})(images(2000), output).total
    assert abs(float(near)) < 0.01
    assert float(far) > 5 * abs(float(near))


@pytest.mark.parametrize("name", ["decoder-gradient", "contractive"])
def test_jacobian_norms_are_those_of_the_jacobian(name: str) -> None:
    model = convae.build(SPEC).eval().double()
    image = images(1)
    if name == "contractive":
        jacobian = torch.autograd.functional.jacobian(lambda x: model.encode(x).mean[0], image)
    else:
        z = model(image, torch_generator(0, "noise")).latent.detach()
        jacobian = torch.autograd.functional.jacobian(lambda each: model.decode(each).mean[0], z)
    exact = float(jacobian.square().sum())
    generator = torch_generator(0, "noise")
    latents = model(image, torch_generator(0, "noise")).latent.detach()
    output = model(image.expand(1, -1, -1, -1), generator)
    assert torch.equal(output.latent, latents)
    objective = build_objective({name: {}})
    found = torch.stack([objective(image, output).total.detach() for _ in range(1000)])
    error = float(found.std()) / len(found) ** 0.5
    assert abs(float(found.mean()) - exact) < 4 * error
    assert error < 0.05 * exact
    # Without gradients, as in validation, the value is of the same estimate.
    with torch.no_grad():
        assert float(objective(image, model(image, torch_generator(0, "noise"))).total) > 0


def test_the_gradient_of_a_penalty_is_that_of_finite_differences() -> None:
    model = convae.build(SPEC).eval().double()
    for name in ("decoder-gradient", "contractive"):
        objective = build_objective({name: {}})
        weight: Any = next(model.decoder.parameters() if name == "decoder-gradient" else model.encoder.parameters())

        def value(objective: Any = objective) -> Tensor:
            total: Tensor = objective(images(3), model(images(3), torch_generator(0, "noise"))).total
            return total

        (gradient,) = torch.autograd.grad(value(), weight)
        change = torch.randn(weight.shape, generator=torch_generator(1), dtype=torch.float64)
        with torch.no_grad():
            weight += 1e-5 * change
        up = value().detach()
        with torch.no_grad():
            weight -= 2e-5 * change
        down = value().detach()
        torch.testing.assert_close((up - down) / 2e-5, (gradient * change).sum(), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("over", ["batch", "image"])
def test_the_optimal_variance_is_the_best_of_all(passed: Any, drawn: Any, over: str) -> None:
    x, y = drawn(4, 1, 3, 3, word="x"), drawn(4, 1, 3, 3, word="y")
    given = passed(x, y)
    found = build_objective({"optimal-gaussian": {"over": over}})(Batch.of(x), given.output).terms["optimal-gaussian"]
    sigmas = torch.linspace(0.05, 1, 2000, dtype=torch.float64)[:, None]
    nll = -Normal(y.flatten(1)[:, None], sigmas).log_prob(x.flatten(1)[:, None]).sum(2)
    wanted = nll.min(1).values.mean() if over == "image" else nll.mean(0).min()
    torch.testing.assert_close(found.mean(), wanted, rtol=1e-5, atol=1e-5)
    assert found.shape == (4,)


def test_half_the_squared_norm_of_the_latent(passed: Any, parts: Any) -> None:
    given = inputs_of(passed, parts)
    found = build_objective({"latent-norm": {}})(Batch.of(given.images), given.output).terms["latent-norm"]
    torch.testing.assert_close(found, 0.5 * parts[2].square().sum(1))


def test_other_posteriors_are_refused() -> None:
    ladder = convae.build({"preset": "ladder", "input": [1, 8, 8], "latent": 3, "size": "tiny"}).eval()
    x = torch.rand(3, 1, 8, 8, generator=torch_generator(0))
    output = ladder(x, torch_generator(0, "noise"))
    for name in ("total-correlation", "dip", "mmd"):
        with pytest.raises(ConfigError, match=rf"objective\.{name}: .*one latent"):
            build_objective({name: {}})(Batch(x, None, torch.arange(3), data_size=9), output)
    assert build_objective({"decoder-gradient": {}})(x, output).total.isfinite()
