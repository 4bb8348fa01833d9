"""Latents of wanted classes, and classes of latents."""

from __future__ import annotations

import pytest
import torch

from convae.core.errors import DataError
from convae.core.random import torch_generator
from convae.data import Split
from convae.latents import Encoding, encode, fit_class_gaussians
from convae.model.vae import VAE


def encoding(count: int = 3000) -> Encoding:
    """Three classes, 2, 5 and 9, the last twice as common; class 5 is stretched and turned."""
    labels = torch.tensor([2, 5, 9, 9]).repeat(count // 4)
    noise = torch.randn(len(labels), 2, generator=torch_generator(0))
    stretched = noise @ torch.tensor([[3.0, 1.0], [0.0, 0.5]])
    middles = {2: [-9.0, 0.0], 5: [0.0, 0.0], 9: [0.0, 8.0]}
    mean = torch.stack([torch.tensor(middles[label]) for label in labels.tolist()])
    mean = mean + torch.where((labels == 5)[:, None], stretched, noise)
    return Encoding(mean, torch.full_like(mean, -2.0), labels, [""] * len(labels))


def test_drawn_latents_have_mean_and_covariance_of_their_class() -> None:
    images = encoding()
    drawn = fit_class_gaussians(images).draw(5, 4000).double()
    own = images.mean[images.labels == 5].double()
    torch.testing.assert_close(drawn.mean(0), own.mean(0), atol=0.2, rtol=0)
    wanted = torch.cov(own.T) + torch.eye(2) * torch.tensor(-2.0).exp()
    torch.testing.assert_close(torch.cov(drawn.T), wanted, atol=0.3, rtol=0.1)


def test_a_label_is_found_again_and_probabilities_are_those_of_bayes() -> None:
    found = fit_class_gaussians(encoding())
    assert found.labels.tolist() == [2, 5, 9]
    for label in (2, 5, 9):
        assert (found.label(found.draw(label, 300)) == label).float().mean() > 0.95
    z = torch.tensor([[0.5, 3.0], [-4.0, 0.0]])
    densities = torch.stack(
        [
            fraction * torch.distributions.MultivariateNormal(mean, scale_tril=root).log_prob(z.double()).exp()
            for fraction, mean, root in zip(found.fractions, found.means, found.roots, strict=True)
        ],
        dim=1,
    )
    torch.testing.assert_close(found.posterior(z), densities / densities.sum(1, keepdim=True))


def test_the_first_latents_are_the_same_for_any_count() -> None:
    found = fit_class_gaussians(encoding(40))
    assert torch.equal(found.draw(2, 3), found.draw(2, 9)[:3])
    assert not torch.equal(found.draw(2, 3, seed=1), found.draw(2, 3))


def test_few_images_of_a_class_are_enough(model: VAE, digits: Split) -> None:
    some = encode(model, digits, indices=torch.arange(80).numpy())
    assert fit_class_gaussians(some).draw(int(digits.labels[0]), 2).shape == (2, 3)  # type: ignore[index]


def test_classes_that_cannot_be_are_named() -> None:
    images = encoding(40)
    with pytest.raises(DataError, match=r"class 3.*\[2, 5, 9\]"):
        fit_class_gaussians(images).draw(3, 1)
    with pytest.raises(DataError, match="label"):
        fit_class_gaussians(Encoding(images.mean, images.logvar, None, images.names))
    lonely = torch.tensor([7] + [2] * 39)
    with pytest.raises(DataError, match="class 7"):
        fit_class_gaussians(Encoding(images.mean, images.logvar, lonely, images.names))
