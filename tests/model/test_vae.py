from __future__ import annotations

import pickle

import pytest
import torch
from narrow import present

import convae
from convae.core.errors import ShapeError
from convae.core.random import torch_generator
from convae.model.likelihoods import LIKELIHOODS
from convae.model.vae import VAE


def images(model: VAE, count: int = 4) -> torch.Tensor:
    return torch.rand(count, *model.input_shape, generator=torch_generator(0, "images"))


def test_encode_decode_and_forward_agree(model: VAE) -> None:
    x = images(model)
    out = model(x)
    assert torch.equal(out.posterior.mean, model.encode(x).mean)
    assert torch.equal(out.latent, out.posterior.mean)
    assert torch.equal(out.likelihood.mean, model.decode(out.latent).mean)
    assert torch.equal(out.terms["kl"], out.posterior.kl())
    assert out.likelihood.mean.shape == x.shape
    assert out.likelihood.log_prob(x).shape == (4,)
    assert 0 <= out.likelihood.mean.min() <= out.likelihood.mean.max() <= 1


def test_only_a_generator_or_training_draws(model: VAE) -> None:
    x = images(model)
    drawn = model(x, torch_generator(1)).latent
    assert torch.equal(drawn, model(x, torch_generator(1)).latent)
    assert not torch.equal(drawn, model(x).latent)
    assert not torch.equal(model.train()(x).latent, model(x).latent)


def test_samples_follow_the_generator(model: VAE) -> None:
    first = model.sample(5, torch_generator(0))
    assert first.shape == (5, 2, 11, 14)
    assert torch.equal(first, model.sample(5, torch_generator(0)))
    assert not torch.equal(first, model.sample(5, torch_generator(1)))
    assert not first.requires_grad


@pytest.mark.parametrize(
    ("x", "part"),
    [
        (torch.rand(2, 2, 11, 13), "2×11×14, got 2×11×13"),
        (torch.rand(2, 1, 11, 14), "2×11×14, got 1×11×14"),
        (torch.rand(2, 11, 14), r"got 2×11×14.* image\[None\]"),
        (torch.zeros(2, 2, 11, 14, dtype=torch.uint8), "got torch.uint8.*255"),
    ],
)
def test_images_that_do_not_fit_are_refused(model: VAE, x: torch.Tensor, part: str) -> None:
    for entry in (model.encode, model):
        with pytest.raises(ShapeError, match=part):
            entry(x)


def test_latents_that_do_not_fit_are_refused(model: VAE) -> None:
    with pytest.raises(ShapeError, match="latents are 3, got 4"):
        model.decode(torch.zeros(2, 4))


@pytest.mark.parametrize("weights", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_images_and_latents_of_any_floating_type_are_converted_to_that_of_the_weights(weights: torch.dtype) -> None:
    model = convae.build({"preset": "torch-vae", "input": [1, 8, 8], "max_filters": 8, "latent": 2}).to(weights).eval()
    images = torch.rand(2, 1, 8, 8).round()  # the same in every type
    wanted = model(images.to(weights))
    assert wanted.posterior.mean.dtype == (weights if weights == torch.float64 else torch.float32)
    for given in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        x = images.to(given)
        assert torch.equal(model.encode(x).mean, wanted.posterior.mean)
        assert torch.equal(model(x).likelihood.log_prob(x), wanted.likelihood.log_prob(images))
        latents = torch.ones(2, 2, dtype=given)
        assert torch.equal(model.decode(latents).mean, model.decode(latents.to(weights)).mean)
    assert model.sample(3).isfinite().all()
    assert model.train()(images.to(weights)).likelihood.mean.isfinite().all()


def test_one_latent_alone_is_told_apart_from_a_wrong_one() -> None:
    model = convae.build({"preset": "torch-vae", "input": [1, 8, 8], "max_filters": 8, "latent": 2})
    with pytest.raises(ShapeError, match=r"latent\[None\]"):
        model.decode(torch.zeros(2))


def test_a_printed_model_says_channels_kernels_strides_and_latent() -> None:
    model = convae.build({"preset": "torch-vae", "input": [1, 8, 8], "max_filters": 8, "latent": 2})
    text = str(model)
    for part in ("'torch-vae', input 1×8×8, latent 2", "channels=2", "kernel=3", "stride=2", "features=", "momentum="):
        assert part in text
    assert pickle.loads(pickle.dumps(model)).spec == model.spec


def test_a_posterior_beyond_its_bounds_is_led_back() -> None:
    for raw, sign in ((60.0, 1), (-60.0, -1)):
        model = convae.build({"preset": "torch-vae", "input": [1, 8, 8], "max_filters": 8, "latent": 2})
        bias = model.get_parameter("bottleneck.bias")
        with torch.no_grad():
            bias[2] = raw
        posterior = model.encode(torch.rand(4, 1, 8, 8))
        assert posterior.logvar.abs().max() <= 40
        posterior.kl().sum().backward()
        assert bias.grad is not None
        assert bias.grad[2] * sign > 1e-3


@pytest.mark.parametrize("name", ["gaussian", "laplace", "discretized-logistic"])
@pytest.mark.parametrize("raw", [1000.0, -1000.0])
@pytest.mark.parametrize("kind", ["learned", "pixel"])
def test_a_scale_beyond_its_bounds_is_led_back(name: str, raw: float, kind: str) -> None:
    argument = "sigma" if name == "gaussian" else "scale"
    head = LIKELIHOODS.get(name)(**{argument: kind})
    values = torch.zeros(1, 2 if kind == "pixel" else 1, 4, 4)
    beyond = head.log_scale if kind == "learned" else values
    with torch.no_grad():
        (beyond if kind == "learned" else beyond[:, 1:]).fill_(raw)
    beyond.requires_grad_(True)
    found = head(values).log_prob(torch.full((1, 1, 4, 4), 0.8))
    assert found.isfinite().all()
    (-found.sum()).backward()
    gradient = present(beyond.grad) if kind == "learned" else present(beyond.grad)[:, 1:]
    assert (gradient * (1 if raw > 0 else -1) > 0).all()
