"""A VAE made of plain modules: what it does, what it refuses, and how it is saved and loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from narrow import narrow
from torch import Tensor, nn

import convae
from convae.core.context import Context
from convae.core.errors import ArtifactError, ConfigError, ShapeError
from convae.core.noise import CountedNoise
from convae.core.posterior import CodePosterior
from convae.core.random import torch_generator
from convae.model.bottlenecks.codes import Codes
from convae.model.bottlenecks.gaussian import Gaussian
from convae.model.condition import Condition
from convae.model.initialize import initialize
from convae.model.layers.base import ContextLayer, Network
from convae.model.likelihoods.bernoulli import Bernoulli
from convae.model.likelihoods.gaussian import Gaussian as GaussianHead
from convae.model.vae import VAE


def plain(**options: Any) -> VAE:
    torch.manual_seed(0)
    parts = {
        "encoder": nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Flatten()),
        "bottleneck": Gaussian((128,), latent=3),
        "decoder": nn.Sequential(nn.Linear(3, 128), nn.Unflatten(1, (8, 4, 4)), nn.ConvTranspose2d(8, 1, 4, 2, 1)),
        "likelihood": Bernoulli(),
        "input_shape": (1, 8, 8),
    }
    return VAE(**{**parts, **options})


def images(count: int = 4, *shape: int) -> Tensor:
    return torch.rand(count, *(shape or (1, 8, 8)), generator=torch_generator(0, "images"))


def test_it_encodes_decodes_and_samples_as_any_model() -> None:
    model = plain().eval()
    out = model(images(), torch_generator(1))
    assert out.latent.shape == (4, 3)
    assert torch.equal(out.terms["kl"], out.posterior.kl())
    assert out.terms["kl"].isfinite().all()  # the bottleneck has initial values
    assert torch.equal(out.likelihood.mean, model.decode(out.latent).mean)
    assert model.sample(2, torch_generator(0)).shape == (2, 1, 8, 8)
    assert model.latent_layout.entries == (("latent", (3,)),)


def test_it_learns() -> None:
    model = plain()
    adam = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(30):
        out = model(images(16), torch_generator(0))
        loss = (out.terms["kl"] - out.likelihood.log_prob(images(16))).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 1


def test_parts_that_do_not_fit_are_named() -> None:
    with pytest.raises(ShapeError, match=r"^decoder: .*1×9×9.* got 1×8×8"):
        plain(input_shape=(1, 9, 9), bottleneck=Gaussian((200,), latent=3))
    with pytest.raises(ShapeError, match="bottleneck"):
        plain(bottleneck=Gaussian((99,), latent=3))
    with pytest.raises(ShapeError, match="encoder"):
        plain(input_shape=(2, 8, 8))
    with pytest.raises(ShapeError, match=r"classifier: .*3×1"):
        plain(classifier=nn.Unflatten(1, (3, 1)))
    with pytest.raises(ConfigError, match="a condition and a classifier"):
        plain(classifier=nn.Linear(3, 2), condition=Condition(classes=2))


def test_networks_and_plain_modules_mix() -> None:
    encoder = Network((1, 8, 8), [{"conv": {"channels": 8, "stride": 2}}, "relu", "flatten"], "encoder")
    assert any(parameter.is_meta for parameter in encoder.parameters())
    initialize(encoder, seed=0)
    model = plain(encoder=encoder).eval()
    assert model(images()).likelihood.mean.isfinite().all()


def test_what_takes_networks_says_that_the_parts_are_none() -> None:
    model = plain()
    with pytest.raises(ConfigError, match="slices"):
        model.use_slices(4)
    with pytest.raises(ConfigError, match="checkpoint"):
        model.use_checkpointing(True)
    with pytest.raises(ShapeError, match="1×8×8, got 1×16×16"):
        model.encode(images(1, 1, 16, 16))
    with pytest.raises(ConfigError, match="made of modules"):
        model.spec  # noqa: B018  # the access is what is tested


def test_an_artifact_needs_the_model_and_names_no_code(tmp_path: Path) -> None:
    model = plain(likelihood=GaussianHead(sigma="learned")).eval()
    path = convae.save(model, tmp_path / "model")
    with pytest.raises(ArtifactError, match=r"torch\.nn\.modules\.container\.Sequential.*load\(path, model="):
        convae.load(path)
    other = plain(likelihood=GaussianHead(sigma="learned"))
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    parameters = list(other.parameters())
    loaded = convae.load(path, model=other)
    assert loaded is other
    assert not loaded.training
    assert all(one is two for one, two in zip(parameters, loaded.parameters(), strict=True))
    assert torch.equal(loaded.encode(images()).mean, model.encode(images()).mean)
    with pytest.raises(ArtifactError, match=r"missing|does not have"):
        convae.load(path, model=plain())


def test_a_codebook_in_a_model_of_modules() -> None:
    encoder = nn.Conv2d(1, 6, 4, 2, 1)
    decoder = nn.ConvTranspose2d(5, 1, 4, 2, 1)
    bottleneck = Codes((6, 4, 4), latent=5, quantizer={"vq": {"codes": 7}})
    model = VAE(encoder, bottleneck, decoder, Bernoulli(), input_shape=(1, 8, 8)).eval()
    codes = narrow(CodePosterior, model.encode(images())).codes
    assert torch.equal(model.decode_codes(codes).mean, model.decode(model.encode(images()).mean).mean)
    assert model.prior.draws_codes
    assert model.sample(3, torch_generator(0)).shape == (3, 1, 8, 8)


class Noisy(ContextLayer):
    """Adds noise of its own stream, reports a cost, and tells whether there were labels."""

    keeps_shape = True

    def forward(self, x: Tensor, context: Context | None = None) -> Tensor:
        context = context or Context()
        noise = context.noise_for(self.stream)
        assert isinstance(noise, CountedNoise)
        context.report_term("noise", x.new_ones(len(x)))
        return x + noise.normal(tuple(x.shape), x.dtype)


def test_layers_anywhere_see_the_context_and_report() -> None:
    encoder = Network((1, 8, 8), ["flatten"], "encoder")
    encoder.append(Noisy((64,)))
    encoder.append(Noisy((64,)))
    model = VAE(
        encoder,
        Gaussian((64,), latent=3),
        nn.Sequential(nn.Linear(3, 64), nn.Unflatten(1, (1, 8, 8))),
        Bernoulli(),
        input_shape=(1, 8, 8),
    )
    assert {layer.stream for layer in encoder if isinstance(layer, Noisy)} == {"noisy 0", "noisy 1"}
    whole, parts = CountedNoise(0, (5,), 0, 4), [CountedNoise(0, (5,), start, 4) for start in (0, 2)]
    out = model(images(), whole)
    assert torch.equal(out.terms["noise"], torch.full((4,), 2.0))  # both layers report under one name
    halves = [model(images()[start : start + 2], noise) for start, noise in zip((0, 2), parts, strict=True)]
    torch.testing.assert_close(torch.cat([half.latent for half in halves]), out.latent)
