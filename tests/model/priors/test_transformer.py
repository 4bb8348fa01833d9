"""The causal transformer over codes: exact probabilities, and samples with and without a cache."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from narrow import narrow
from torch import Tensor

import convae
from convae.core.errors import ConfigError, ShapeError
from convae.core.joint_posterior import JointPosterior
from convae.core.noise import CountedNoise
from convae.core.posterior import CodePosterior
from convae.core.random import torch_generator
from convae.latents import draw_latents
from convae.model.bottlenecks.codes import Codes
from convae.model.bottlenecks.gaussian import Gaussian
from convae.model.priors.transformer import Transformer

SMALL: dict[str, Any] = {"layers": 2, "width": 8, "heads": 2, "classes": 2}
ONE_LEVEL: dict[str, Any] = {"fsq": {"levels": [3]}}
LEVELS: dict[str, Any] = {"residual": {"levels": 2, "quantizer": {"fsq": {"levels": [3]}}}}


def transformer(
    quantizer: Any, grid: tuple[int, ...], below: tuple[tuple[int, ...], ...] = (), **more: Any
) -> Transformer:
    """A transformer with weights that make codes depend on each other; `below` are the grids of lower latents."""
    bottleneck, *others = (Codes((4, *each), quantizer=quantizer) for each in (grid, *below))
    made = Transformer(bottleneck, others, **{**SMALL, **more}).eval()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            parameter.add_(0.5 * torch.randn(parameter.shape, generator=torch_generator(0, name)))
    return made


def all_codes(prior: Transformer) -> Tensor:
    levels = [(size, math.prod(latent.grid)) for latent in prior.order.latents for size in latent.sizes]
    sizes = [size for size, positions in levels for _ in range(positions)]
    every = torch.tensor(list(itertools.product(*(range(size) for size in sizes))))
    return every.view(len(every), *prior.code_shape)


@pytest.mark.parametrize(
    ("quantizer", "grid", "below"),
    [
        (ONE_LEVEL, (2, 2), ()),
        (LEVELS, (3,), ()),
        (ONE_LEVEL, (), ()),
        (ONE_LEVEL, (2,), ((3,), (2,))),
        (LEVELS, (1, 1), ((1, 2),)),
        (ONE_LEVEL, (), ((1, 2),)),
    ],
)
@torch.no_grad()
def test_probabilities_of_all_codes_sum_to_one(
    quantizer: Any, grid: tuple[int, ...], below: tuple[tuple[int, ...], ...]
) -> None:
    prior = transformer(quantizer, grid, below)
    codes = all_codes(prior)
    for labels in (None, torch.zeros(len(codes), dtype=torch.int64), torch.ones(len(codes), dtype=torch.int64)):
        nats = prior.codes_log_prob(codes, labels).double()
        assert float(nats.exp().sum()) == pytest.approx(1, abs=1e-5)
        assert float(nats.std()) > 0.1
    by_class = [prior.codes_log_prob(codes, torch.full((len(codes),), label)) for label in (0, 1)]
    assert float((by_class[0] - by_class[1]).abs().max()) > 1e-2
    if len(prior.order.sizes) == 1:  # several levels can give one vector in different ways
        torch.testing.assert_close(prior.log_prob(prior.bottleneck.embed_codes(codes)), prior.codes_log_prob(codes))


@torch.no_grad()
def test_samples_have_the_probabilities_of_the_density() -> None:
    prior = transformer(LEVELS, (2,))
    codes = all_codes(prior)
    labels = torch.ones(20_000, dtype=torch.int64)
    drawn = prior.sample(20_000, torch_generator(0, "samples"), labels)
    expected = prior.codes_log_prob(codes, torch.ones(len(codes), dtype=torch.int64)).exp()
    found = torch.stack([(drawn == each).flatten(1).all(1).float().mean() for each in codes])
    torch.testing.assert_close(found, expected, rtol=0, atol=0.015)


@torch.no_grad()
def test_the_first_latent_of_a_hierarchy_has_its_marginal_probability() -> None:
    prior = transformer(ONE_LEVEL, (2,), ((3,),))
    codes = all_codes(prior)
    joint = prior.codes_log_prob(codes).double().view(9, 27)
    tops = codes[::27, :2]
    marginal = joint.logsumexp(1).float()
    torch.testing.assert_close(prior.codes_log_prob(tops), marginal)
    torch.testing.assert_close(prior.log_prob(prior.bottleneck.embed_codes(tops)), marginal)


def test_a_lower_latent_sees_the_codes_above_it() -> None:
    prior = transformer(LEVELS, (2, 2), ((4, 4), (8, 4)))
    first, second, third = prior.order.latents
    assert (first.begin, second.begin, third.begin, prior.order.length) == (0, 8, 40, 104)
    assert prior.order.places_above(first).shape == (4, 0)
    # Row 3, column 1 of 4×4 lies in row 1, column 0 of 2×2, whose codes are the fifth and the sixth.
    assert prior.order.places_above(second)[13].tolist() == [4, 5]
    assert prior.order.places_above(third)[7 * 4 + 3].tolist() == [6, 7, second.begin + 30, second.begin + 31]
    assert prior.above_embedding.shape == (3 * 4, 8)
    codes = torch.zeros(2, 104, dtype=torch.int64)
    prior.codes_log_prob(codes).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in prior.parameters())


@pytest.mark.parametrize(
    ("quantizer", "grid", "below"),
    [(ONE_LEVEL, (3, 4), ()), (LEVELS, (2, 3), ()), (LEVELS, (2, 1), ((4, 2),))],
)
@pytest.mark.parametrize(
    "options", [{}, {"guidance": 3.0}, {"temperature": 0.7, "top_k": 2}, {"top_p": 0.6}, {"temperature": 0.0}]
)
def test_samples_with_and_without_the_cache_are_equal(
    quantizer: Any, grid: tuple[int, ...], below: tuple[tuple[int, ...], ...], options: dict[str, Any]
) -> None:
    prior = transformer(quantizer, grid, below)
    labels = torch.tensor([0, 1, -1, 1, 0])
    with_cache, without = (
        prior.sample(5, torch_generator(0, "samples"), labels, **options, cache=cache) for cache in (True, False)
    )
    assert torch.equal(with_cache, without)
    assert with_cache.shape == (5, *prior.code_shape)
    # Each sample depends on its own generator only.
    own = [torch_generator(0, "own", number) for number in range(5)]
    together = prior.sample(5, own, labels, **options)
    alone = prior.sample(1, [torch_generator(0, "own", 3)], labels[3:4], **options)
    assert torch.equal(together[3:4], alone)


def test_guidance_is_that_of_the_prior_by_default() -> None:
    plain, guided = (transformer(ONE_LEVEL, (4, 4), guidance=guidance) for guidance in (1.0, 3.0))
    guided.load_state_dict(plain.state_dict())
    labels = torch.arange(8) % 2

    def draw(prior: Transformer, guidance: float | None = None) -> Tensor:
        return prior.sample(8, torch_generator(0, "samples"), labels, guidance=guidance)

    assert torch.equal(draw(guided), draw(plain, guidance=3.0))
    assert torch.equal(draw(plain), draw(guided, guidance=1.0))
    assert not torch.equal(draw(guided), draw(plain))


@torch.no_grad()
def test_temperature_top_k_and_top_p_keep_probable_codes() -> None:
    prior = transformer(ONE_LEVEL, ())
    probabilities = prior.codes_log_prob(torch.arange(3)).exp()
    best = int(probabilities.argmax())
    for options in ({"temperature": 0.0}, {"top_k": 1}, {"top_p": 1e-6}):
        assert (prior.sample(50, torch_generator(0, "samples"), **options) == best).all()
    least = int(probabilities.argmin())
    assert not (prior.sample(500, torch_generator(0, "samples"), top_k=2) == least).any()
    assert (prior.sample(500, torch_generator(0, "samples")) == least).any()


def test_the_loss_leaves_labels_out_in_training_only() -> None:
    prior = transformer(ONE_LEVEL, (2,), class_dropout=0.5, dropout=0.0)
    codes = torch.zeros(400, 2, dtype=torch.int64)
    labels, noise = torch.ones(400, dtype=torch.int64), CountedNoise(0, ("step", 1), 0, 400)
    given, of_any = -prior.codes_log_prob(codes[:1], labels[:1]), -prior.codes_log_prob(codes[:1])
    torch.testing.assert_close(prior.loss(codes, labels, noise), given.expand(400))
    found = prior.train().loss(codes, labels, noise)
    without = torch.isclose(found, of_any.expand(400))
    assert (without | torch.isclose(found, given.expand(400))).all()
    assert 0.4 < float(without.float().mean()) < 0.6
    part = prior.loss(codes[7:9], labels[7:9], CountedNoise(0, ("step", 1), 7, 400))
    torch.testing.assert_close(part, found[7:9])  # up to rounding, which depends on the size of the batch
    found.sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in prior.parameters())


def test_a_model_has_its_divergence_and_is_saved(tmp_path: Path) -> None:
    spec: dict[str, Any] = {
        "input": [1, 8, 8],
        "encoder": [{"conv": {"channels": 4, "stride": 4}}],
        "bottleneck": ONE_LEVEL,
        "decoder": [{"conv-transpose": {"channels": 1, "stride": 4}}],
        "prior": {"transformer": SMALL},
    }
    model = convae.build(spec).eval()
    posterior = model.encode(torch.rand(3, 1, 8, 8, generator=torch_generator(0, "images")))
    assert isinstance(posterior, CodePosterior)
    assert isinstance(model.prior, Transformer)
    torch.testing.assert_close(posterior.kl(), -model.prior.codes_log_prob(posterior.codes))
    labels, options = torch.tensor([0, 1, 1]), {"top_p": 0.9}
    images = model.sample(3, torch_generator(0, "z"), labels, options=options)
    again = convae.load(convae.save(model, tmp_path / "model"))
    assert torch.equal(again.sample(3, torch_generator(0, "z"), labels, options=options), images)
    with pytest.raises(ConfigError, match="top_p"):
        model.sample(3, options={"top_q": 0.9})
    with pytest.raises(ConfigError, match="2"):
        model.sample(3, labels=torch.tensor([0, 1, 2]))
    with pytest.raises(ShapeError):
        model.sample(3, labels=torch.tensor([0, 1]))


HIERARCHY: dict[str, Any] = {
    "input": [1, 8, 8],
    "encoder": [
        {"conv": {"channels": 4, "stride": 2}},
        {"feature": {"name": "fine"}},
        "silu",
        {"conv": {"channels": 4, "stride": 2}},
    ],
    "bottleneck": {"fsq": {"levels": [3]}},
    "decoder": [
        {"conv-transpose": {"channels": 4, "stride": 2}},
        {"latent-codes": {"feature": "fine", "residual": {"levels": 2, "quantizer": {"fsq": {"levels": [3]}}}}},
        {"conv-transpose": {"channels": 1, "stride": 2}},
    ],
    "prior": {"transformer": SMALL},
}


def test_a_hierarchy_has_the_divergence_of_each_latent_and_is_sampled(tmp_path: Path) -> None:
    model = convae.build(HIERARCHY).eval()
    prior = narrow(Transformer, model.prior)
    posterior = narrow(JointPosterior, model.encode(torch.rand(3, 1, 8, 8, generator=torch_generator(0, "images"))))
    codes = torch.cat([each.flatten(1) for each in posterior.codes.values()], 1)
    assert codes.shape == (3, 4 + 2 * 16)
    torch.testing.assert_close(posterior.kl(), -prior.codes_log_prob(codes))
    top = posterior.parts["latent"].kl()
    torch.testing.assert_close(top, -prior.codes_log_prob(posterior.codes["latent"]))
    assert (posterior.parts["latent 1"].kl() > 0).all()
    # Samples of the model decode the codes that the prior draws, of all latents.
    labels = torch.tensor([0, 1, 1])
    drawn = prior.sample(3, torch_generator(0, "z"), labels)
    assert drawn.shape == codes.shape
    named = {"latent": drawn[:, :4].view(3, 2, 2), "latent 1": drawn[:, 4:].view(3, 2, 4, 4)}
    images = model.sample(3, torch_generator(0, "z"), labels)
    torch.testing.assert_close(images, model.decode_codes(named).mean)
    torch.testing.assert_close(model.sample_latents(3, torch_generator(0, "z"), labels), model.embed_codes(named))
    cold = model.sample(3, torch_generator(0, "z"), labels, temperature={"latent 1": 0.0})
    chosen = prior.sample(3, torch_generator(0, "z"), labels, (1.0, 0.0))
    assert torch.equal(chosen[:, :4], drawn[:, :4])
    assert not torch.equal(cold, images)
    z = draw_latents(model, 2, temperature=(1.0, 0.5), labels=labels[:2])
    assert torch.equal(z, model.nearest_latents(z))
    again = convae.load(convae.save(model, tmp_path / "model"))
    assert torch.equal(again.sample(3, torch_generator(0, "z"), labels), images)


def test_continuous_latents_are_refused() -> None:
    with pytest.raises(ConfigError, match="gmm"):
        Transformer(Gaussian((4,), latent=3))
    with pytest.raises(ConfigError, match="heads"):
        Transformer(Codes((4, 2), quantizer=ONE_LEVEL), width=10, heads=3)
