"""Gaussians fitted to latents: densities and samples against torch and scikit-learn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from convae.core.arguments import parse_arguments
from convae.core.errors import ConfigError, DataError
from convae.core.random import torch_generator
from convae.model.bottlenecks.codes import Codes
from convae.model.bottlenecks.gaussian import Gaussian
from convae.model.priors.class_gaussians import ClassGaussians
from convae.model.priors.gmm import GMM

CENTERS = torch.tensor([[4.0, 0, 0], [-4.0, 1, 0], [0, -5.0, 2]])
SPREAD = torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0], [0, 0.2, 0.3]])


def latents(count: int = 1500) -> tuple[Tensor, Tensor]:
    """Latents of three classes of unequal numbers, and their labels."""
    labels = torch.arange(count) % 6 // 2 * (torch.arange(count) % 6 > 1)
    noise = torch.randn(count, 3, generator=torch_generator(0, "latents"))
    return CENTERS[labels] + noise @ SPREAD.T, labels


def fitted(kind: Any, z: Tensor, labels: Tensor | None, **given: Any) -> tuple[Any, dict[str, Any]]:
    found: tuple[Any, dict[str, Any]] = kind.fit(
        Gaussian((4,), latent=3), z, labels, 0, parse_arguments(kind, given, "prior")
    )
    return found


def reference(prior: Any) -> MixtureSameFamily:
    root = prior.root.detach().double()
    roots = root if prior.is_full else root.diag_embed()
    normals = MultivariateNormal(prior.mean.detach().double(), scale_tril=roots)
    return MixtureSameFamily(Categorical(logits=prior.logits.detach().double()), normals)


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
@pytest.mark.parametrize("kind", [GMM, ClassGaussians])
@torch.no_grad()
def test_density_and_samples_are_those_of_torch(kind: Any, covariance: str) -> None:
    z, labels = latents()
    own = {"components": 3} if kind is GMM else {"classes": 3}
    prior, _ = fitted(kind, z, labels, covariance=covariance, **own)
    expected = reference(prior)
    torch.testing.assert_close(prior.log_prob(z).double(), expected.log_prob(z.double()), rtol=1e-5, atol=1e-5)
    drawn = prior.sample(20_000, torch_generator(0, "samples")).double()
    torch.testing.assert_close(drawn.mean(0), expected.mean, rtol=0, atol=0.1)
    torch.testing.assert_close(drawn.var(0), expected.variance, rtol=0.05, atol=0)


@torch.no_grad()
def test_the_number_of_components_has_the_lowest_bic() -> None:
    z, _ = latents()
    _, final = fitted(GMM, z, None)
    assert final["components"] in (2, 4)
    assert final["covariance"] == "full"
    prior, _ = fitted(GMM, z, None, components=3)
    assert float(torch.cdist(CENTERS, prior.mean).amin(1).max()) < 0.15
    assert float(-prior.log_prob(z).mean()) < float(-torch.distributions.Normal(0, 1).log_prob(z).sum(1).mean()) - 2
    assert fitted(GMM, z, None, components=1)[1]["components"] == 1
    with pytest.raises(DataError, match="got 2"):
        fitted(GMM, z[:2], None, components=3)


@torch.no_grad()
def test_labels_choose_the_class() -> None:
    z, labels = latents()
    prior, final = fitted(ClassGaussians, z, labels, classes=3)
    assert (prior.classes, final["covariance"]) == (3, "full")
    for label in range(3):
        own = z[labels == label]
        torch.testing.assert_close(prior.mean[label], own.mean(0), rtol=1e-5, atol=1e-5)
        drawn = prior.sample(4000, torch_generator(0, "samples"), torch.full((4000,), label))
        torch.testing.assert_close(drawn.mean(0), own.mean(0), rtol=0, atol=0.1)
        torch.testing.assert_close(torch.cov(drawn.T), torch.cov(own.T), rtol=0.15, atol=0.05)
    cold = prior.sample(6, torch_generator(0, "samples"), torch.arange(6) % 3, temperature=0)
    torch.testing.assert_close(cold, prior.mean[torch.arange(6) % 3])
    # A missing label is any class, by its frequency.
    some = prior.sample(3000, torch_generator(1, "samples"), torch.full((3000,), -1), temperature=0)
    fractions = torch.bincount(torch.cdist(some, prior.mean).argmin(1), minlength=3) / 3000
    torch.testing.assert_close(fractions, torch.bincount(labels) / len(labels), rtol=0, atol=0.04)
    with pytest.raises(DataError, match="no labels"):
        fitted(ClassGaussians, z, None, classes=3)
    with pytest.raises(DataError, match="label 3"):
        fitted(ClassGaussians, z, labels, classes=4)


@pytest.mark.parametrize("kind", [GMM, ClassGaussians])
@torch.no_grad()
def test_few_latents_of_many_values_do_not_overfit(kind: Any) -> None:
    # The sample covariance of 60 latents of 40 values loses 41 nats on others against the density that drew them.
    z = torch.randn(1060, 40, generator=torch_generator(0, "few"))
    own = {"components": 1} if kind is GMM else {"classes": 1}
    arguments = parse_arguments(kind, {"covariance": "full", **own}, "prior")
    prior, _ = kind.fit(Gaussian((80,), latent=40), z[:60], torch.zeros(60, dtype=torch.long), 0, arguments)
    exact = torch.distributions.Normal(0, 1).log_prob(z[60:]).sum(1).mean()
    assert float(exact - prior.log_prob(z[60:]).mean()) < 1.5


@pytest.mark.parametrize("kind", [GMM, ClassGaussians])
def test_codes_are_refused(kind: Any) -> None:
    with pytest.raises(ConfigError, match="transformer"):
        kind(Codes((4, 4, 4), quantizer={"fsq": {"levels": [3, 3]}}))
