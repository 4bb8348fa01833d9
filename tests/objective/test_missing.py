"""Terms of images with missing values are those of the observed values alone, in value and gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import convae
from convae.core.errors import ConfigError
from convae.core.random import torch_generator
from convae.core.types import Batch
from convae.model.likelihoods import LIKELIHOODS
from convae.model.likelihoods.base import LikelihoodHead
from convae.objective import build_objective
from convae.objective.objective import Losses

IMAGES = torch.rand(4, 2, 3, 3, generator=torch_generator(0), dtype=torch.float64)
WEIGHTS = (torch.rand(4, 1, 3, 3, generator=torch_generator(1)) < 0.6).double()
SPEC = {
    "input": [2, 3, 3],
    "encoder": ["flatten"],
    "bottleneck": {"gaussian": {"latent": 2}},
    "decoder": [{"linear": {"features": 18}}, {"unflatten": {"to": [2, 3, 3]}}],
    "likelihood": {"gaussian": {"sigma": 0.3}},
}
DEFINED = {"reconstruction": 1, "squared-error": 1, "absolute-error": 1, "optimal-gaussian": 1}


@pytest.mark.parametrize("name", LIKELIHOODS.own_names())
def test_likelihoods_are_those_of_the_observed_values(name: str) -> None:
    kind: type[LikelihoodHead] = LIKELIHOODS.get(name)
    head = kind(**kind.example)
    raw = torch.randn(4, head.raw_channels(2), 3, 3, generator=torch_generator(2), dtype=torch.float64)
    raw.requires_grad_()
    likelihood = head(raw)
    observed = WEIGHTS.bool().expand(4, 2, 3, 3)
    values = likelihood.log_prob_values(IMAGES)
    torch.testing.assert_close(values.flatten(1).sum(1), likelihood.log_prob(IMAGES))
    expected = torch.stack([values[row][observed[row]].sum() for row in range(4)])
    found = likelihood.log_prob(torch.where(observed, IMAGES, 0.0), WEIGHTS)
    torch.testing.assert_close(found, expected)
    ours, theirs = (torch.autograd.grad(each.sum(), raw, retain_graph=True)[0] for each in (found, expected))
    torch.testing.assert_close(ours, theirs)
    half = likelihood.log_prob(IMAGES, torch.full_like(WEIGHTS, 0.5))
    torch.testing.assert_close(half, 0.5 * values.flatten(1).sum(1))


@pytest.mark.parametrize("over", ["batch", "image"])
def test_terms_do_not_depend_on_what_is_missing(over: str) -> None:
    model = convae.build(SPEC, seed=1).double().eval()
    objective = build_objective({**DEFINED, "optimal-gaussian": {"over": over}, "kl": 1})
    observed = WEIGHTS.bool().expand_as(IMAGES)
    output = model(IMAGES)
    reconstruction = output.likelihood.mean

    def terms(fill: float) -> dict[str, Tensor]:
        images = torch.where(observed, IMAGES, fill)
        losses: Losses = objective(Batch(images, None, torch.arange(4), weights=WEIGHTS), output)
        return losses.terms

    found = {fill: terms(fill) for fill in (0.0, 0.7)}
    for name in found[0.0]:
        torch.testing.assert_close(found[0.0][name], found[0.7][name], rtol=0, atol=0)
    squares = (IMAGES - reconstruction).square()
    per_image = torch.stack([squares[row][observed[row]].sum() for row in range(4)])
    torch.testing.assert_close(found[0.0]["squared-error"], per_image)
    count = observed.flatten(1).sum(1).double()
    variance = per_image / count if over == "image" else (per_image.sum() / count.sum()).expand(4)
    expected = [
        -sum(
            torch.distributions.Normal(mean, deviation).log_prob(x)
            for x, mean in zip(IMAGES[row][observed[row]], reconstruction[row][observed[row]], strict=True)
        )
        for row, deviation in enumerate(variance.sqrt())
    ]
    wanted = torch.stack([torch.as_tensor(each) for each in expected])
    torch.testing.assert_close(found[0.0]["optimal-gaussian"], wanted)


def test_importance_weighted_bounds_count_observed_values() -> None:
    model = convae.build(SPEC, seed=1).double()
    objective = build_objective({"importance-weighted": {"samples": 3}})
    batch = Batch(IMAGES * WEIGHTS, None, torch.arange(4), weights=WEIGHTS)
    output = model(batch.images, torch_generator(0), samples=3)
    rows = batch.repeated(3)
    observed = rows.weights.bool().expand_as(rows.images)  # type: ignore[union-attr]
    each = torch.distributions.Normal(output.likelihood.mean, 0.3).log_prob(rows.images)
    log_joint = torch.stack([own[seen].sum() for own, seen in zip(each, observed, strict=True)])
    weights = log_joint + output.posterior.log_prior(output.latent) - output.posterior.log_prob(output.latent)
    bound = -(weights.view(4, 3).logsumexp(1) - torch.tensor(3.0).log())
    torch.testing.assert_close(objective(batch, output).terms["importance-weighted"], bound)


@pytest.mark.parametrize("name", ["ssim", "ms-ssim", "gradient-difference", "focal-frequency"])
def test_terms_of_whole_images_are_refused(name: str) -> None:
    model = convae.build(SPEC, seed=1)
    objective = build_objective({"reconstruction": 1, name: 1})
    images: Tensor = IMAGES.float()
    batch = Batch(images, None, torch.arange(4), weights=WEIGHTS.float())
    with pytest.raises(ConfigError, match=rf"objective\.{name}.*missing"):
        objective(batch, model(images))
