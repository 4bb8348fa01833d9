"""Vector quantization: against vector-quantize-pytorch, the formulas of the papers, and what dead entries do."""

from __future__ import annotations

import math
import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import convae
from convae.core.context import Context
from convae.core.errors import ConfigError, ShapeError
from convae.core.random import torch_generator
from convae.model.bottlenecks.base import Bottleneck
from convae.model.bottlenecks.vq import VQ
from convae.model.priors.uniform_codes import UniformCodes

CODES, CHANNELS = 16, 3


def quantizer(**options: Any) -> VQ:
    options = {"codes": CODES, "head": False, "dead_code_threshold": 0.0, **options}
    made = VQ((CHANNELS, 4, 4), **options)
    with torch.no_grad():
        made.reset(torch_generator(0, "book"))
    return made


def run(bottleneck: Bottleneck, x: Tensor, noise: Any = None, sample: bool = True) -> SimpleNamespace:
    """Latent, posterior and terms of a pass through a bottleneck."""
    context = Context(noise, latent_source="posterior" if sample else "mean")
    latent = bottleneck(x, context)
    return SimpleNamespace(latent=latent, posterior=context.posteriors["latent"], terms=context.terms)


def features(word: str | int = "features", count: int = 8, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(count, CHANNELS, 4, 4, generator=torch_generator(0, word))


@pytest.fixture
def oracle() -> Any:
    """The same codebook in vector-quantize-pytorch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from vector_quantize_pytorch import VectorQuantize
    made = VectorQuantize(
        dim=CHANNELS,
        codebook_size=CODES,
        decay=0.9,
        commitment_weight=1.0,
        accept_image_fmap=True,
        rotation_trick=False,
    )
    book = quantizer().codebook
    made._codebook.embed.data.copy_(book[None])
    made._codebook.embed_avg.data.copy_(book[None])
    made._codebook.cluster_size.data.fill_(1)
    made._codebook.initted.data.fill_(True)
    return made


def test_entries_moved_by_averages_are_those_of_vector_quantize_pytorch(oracle: Any) -> None:
    ours = quantizer(decay=0.9)
    with torch.no_grad():
        ours.cluster_size.fill_(1)
        ours.embed_sum.copy_(ours.codebook)
    for step in range(6):
        x, again = (features(step, scale=2.0).requires_grad_() for _ in range(2))
        bottled = run(ours, x)
        wanted, codes, loss = oracle(again)
        assert torch.equal(bottled.posterior.codes, codes)
        torch.testing.assert_close(bottled.latent, wanted)
        # Theirs is a mean over all values, ours a sum for each image.
        torch.testing.assert_close(bottled.terms["commitment"].mean() / x[0].numel(), loss.squeeze())
        ((bottled.latent**3).sum() + bottled.terms["commitment"].sum()).backward()
        ((wanted**3).sum() + loss.sum() * x.numel()).backward()
        torch.testing.assert_close(x.grad, again.grad)
        torch.testing.assert_close(ours.codebook, oracle._codebook.embed[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(ours.cluster_size, oracle._codebook.cluster_size[0])


@pytest.mark.parametrize("shape", [(5,), (5, 6), (5, 6, 4), (5, 3, 2, 4)])
def test_each_place_becomes_its_nearest_entry(shape: tuple[int, ...]) -> None:
    made = VQ(shape, codes=7, latent=3).eval()
    with torch.no_grad():
        made.reset(torch_generator(0, "book"))
        x = torch.randn(2, *shape, generator=torch_generator(0, "x"))
        found = made.posterior(x)
        values = (x.movedim(1, -1) @ made.weight.T + made.bias).flatten(0, -2)
    nearest = torch.cdist(values.double(), made.codebook.double()).argmin(1)
    assert torch.equal(found.codes.flatten(), nearest)
    assert torch.equal(found.mean.movedim(1, -1).flatten(0, -2), made.codebook[nearest])
    assert found.mean.shape == (2, *made.latent_shape) == (2, 3, *shape[1:])
    assert torch.equal(run(made, x, torch_generator(1), True).latent, found.mean)


def test_gradients_of_the_terms_are_those_of_their_closed_forms() -> None:
    made = quantizer(update="gradient")
    x = features().requires_grad_()
    bottled = run(made, x, None, True)
    entries = bottled.posterior.mean.detach()
    distance = x.detach() - entries
    torch.testing.assert_close(bottled.terms["commitment"], distance.square().flatten(1).sum(1))
    torch.testing.assert_close(bottled.terms["codebook"], bottled.terms["commitment"])
    (to_features,) = torch.autograd.grad(bottled.terms["commitment"].sum(), x, retain_graph=True)
    torch.testing.assert_close(to_features, 2 * distance)
    (to_book,) = torch.autograd.grad(bottled.terms["codebook"].sum(), made.codebook, retain_graph=True)
    wanted = torch.zeros_like(made.codebook)
    codes = bottled.posterior.codes.flatten()
    wanted.index_add_(0, codes, -2 * distance.movedim(1, -1).flatten(0, -2))
    torch.testing.assert_close(to_book, wanted.detach())
    (to_features,) = torch.autograd.grad(bottled.terms["codebook"].sum(), x, allow_unused=True, retain_graph=True)
    assert to_features is None
    # Straight through: what reaches the latent reaches the features.
    (through,) = torch.autograd.grad((bottled.latent * 3).sum(), x)
    assert torch.equal(through, torch.full_like(x, 3))


def test_the_divergence_is_that_of_a_certain_entry_from_an_even_prior() -> None:
    made = quantizer().eval()
    posterior = made.posterior(features())
    torch.testing.assert_close(posterior.kl(), torch.full((8,), 16 * math.log(CODES)))
    # KL = E[log q(z) − log p(z)], and z is certain.
    z = posterior.sample(torch_generator(0))
    torch.testing.assert_close(posterior.kl(), posterior.log_prob(z) - UniformCodes(made).log_prob(z))
    assert posterior.log_prob(z + 1).eq(-math.inf).all()


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_the_code_book_begins_on_features_and_its_dead_entries_rise_by_seed_and_step_alone(update: Any) -> None:
    books = []
    for _ in range(2):
        made = quantizer(update=update, dead_code_threshold=0.03)
        x = features(scale=0.1)
        run(made, x + 5, torch_generator(0, "latent", 0), True)
        books.append(made.codebook.clone())
        assert (torch.cdist(made.codebook, _rows(x + 5)).amin(1) < 0.5).all()
        with torch.no_grad():  # an entry far from all features, and long unused
            made.codebook[3], made.cluster_size[3] = 100.0, 0.0
            alive = made.codebook[4].clone()
        run(made, x + 5, torch_generator(0, "latent", 1), True)
        assert torch.cdist(made.codebook[3:4], _rows(x + 5)).amin() < 1e-2
        assert (made.codebook[4] - alive).norm() < 0.5
        books.append(made.codebook.clone())
    assert torch.equal(books[0], books[2])
    assert torch.equal(books[1], books[3])


def _rows(x: Tensor) -> Tensor:
    return x.movedim(1, -1).flatten(0, -2)


def test_the_dead_may_lie_and_evaluation_moves_nothing() -> None:
    made = quantizer(dead_code_threshold=0.0)
    run(made, features(scale=0.01) + 3, torch_generator(0), True)
    assert (made.cluster_size > 0).sum() < CODES
    raised = quantizer(dead_code_threshold=0.03).eval()
    before = {name: value.clone() for name, value in raised.state_dict().items()}
    run(raised, features(), torch_generator(0), True)
    assert all(torch.equal(value, before[name]) for name, value in raised.state_dict().items())


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_features_that_are_not_finite_reach_no_entry_that_a_skipped_step_would_keep(update: Any) -> None:
    made = quantizer(update=update, dead_code_threshold=0.03)
    run(made, features(), torch_generator(0), True)
    before = made.codebook.clone()
    run(made, features() * float("nan"), torch_generator(1), True)
    if update == "gradient":  # a parameter, which is not put back as buffers are
        assert torch.equal(made.codebook, before)


def test_half_precision_features_are_compared_in_float32() -> None:
    made = quantizer().eval()
    x = features(scale=0.01) + made.codebook[0].view(1, -1, 1, 1)
    with torch.autocast("cpu", torch.bfloat16):
        found = run(made, x.bfloat16(), None, False)
    assert found.latent.dtype == found.terms["commitment"].dtype == torch.float32
    assert torch.equal(found.posterior.codes, made.posterior(x.bfloat16().float()).codes)


def test_samples_are_drawn_evenly_and_the_same_for_any_count() -> None:
    made = quantizer()
    prior = UniformCodes(made)
    z = made.embed_codes(prior.sample(400, torch_generator(0)))
    assert z.shape == (400, CHANNELS, 4, 4)
    codes = torch.cdist(_rows(z), made.codebook).argmin(1)
    uses = codes.bincount(minlength=CODES).double()
    assert ((uses / len(codes) - 1 / CODES).abs() < 0.02).all()
    own = [torch_generator(0, number) for number in range(3)]
    alone = prior.sample(1, [torch_generator(0, 2)])
    assert torch.equal(prior.sample(3, own)[2:], alone)
    with pytest.raises(ShapeError, match="2 latents, got 1"):
        prior.sample(2, [torch_generator(0)])


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ConfigError, match="'latent' is missing"):
        VQ((4, 2, 2))
    with pytest.raises(ShapeError, match=r"3 feature channels.*4×2×2"):
        VQ((4, 2, 2), latent=3, head=False)


def test_a_preset_takes_it_in_the_place_of_its_own() -> None:
    model = convae.build(
        {
            "preset": "sd-f8",
            "input": [3, 16, 16],
            "width": 4,
            "latent": 2,
            "bottleneck": {"vq": {"codes": 8, "latent": 2}},
        }
    )
    assert model.latent_shape[0] == 2
    assert isinstance(model.bottleneck, VQ)
    assert model.sample(2, torch_generator(0)).shape == (2, 3, 16, 16)
