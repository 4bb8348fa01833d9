"""Vector quantization: against vector-quantize-pytorch, the formulas of the papers, and what dead codes do."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from quantizing import library
from torch import Tensor

from convae.core.context import Context
from convae.core.errors import ConfigError
from convae.core.random import torch_generator
from convae.model.quantizers._nearest import nearest_codes
from convae.model.quantizers.base import Quantizer
from convae.model.quantizers.vq import VQ

CODES, CHANNELS = 16, 3


def quantizer(**options: Any) -> VQ:
    made = VQ(CHANNELS, **{"codes": CODES, "dead_code_threshold": 0.0, **options})
    with torch.no_grad():
        made.reset(torch_generator(0, "book"))
    return made


def run(quantizer: Quantizer, x: Tensor, noise: Any = None) -> SimpleNamespace:
    """Latent, posterior and terms of a pass through a quantizer."""
    context = Context(noise)
    latent = quantizer(x, context, "latent")
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
    state = made.state_dict()
    state["_codebook.embed"].copy_(book[None])
    state["_codebook.embed_avg"].copy_(book[None])
    state["_codebook.cluster_size"].fill_(1)
    state["_codebook.initted"].fill_(True)
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
        torch.testing.assert_close(ours.codebook, oracle.state_dict()["_codebook.embed"][0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(ours.cluster_size, oracle.state_dict()["_codebook.cluster_size"][0])


@pytest.mark.parametrize("grid", [(), (6,), (6, 4), (3, 2, 4)])
def test_each_vector_becomes_its_nearest_code(grid: tuple[int, ...]) -> None:
    made = quantizer().eval()
    values = torch.randn(2, CHANNELS, *grid, generator=torch_generator(0, "x"))
    found = made.posterior(values)
    nearest = torch.cdist(_rows(values).double(), made.codebook.double()).argmin(1)
    assert found.codes.shape == (2, *grid)
    assert torch.equal(found.codes.flatten(), nearest)
    assert torch.equal(_rows(found.mean), made.codebook[nearest])
    assert torch.equal(run(made, values, torch_generator(1)).latent, found.mean)


def test_gradients_of_the_terms_are_those_of_their_closed_forms() -> None:
    made = quantizer(update="gradient")
    x = features().requires_grad_()
    bottled = run(made, x)
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


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_the_code_book_begins_on_features_and_its_dead_entries_rise_by_seed_and_step_alone(update: Any) -> None:
    books = []
    for _ in range(2):
        made = quantizer(update=update, dead_code_threshold=0.03)
        x = features(scale=0.1)
        run(made, x + 5, torch_generator(0, "latent", 0))
        books.append(made.codebook.clone())
        assert (torch.cdist(made.codebook, _rows(x + 5)).amin(1) < 0.5).all()
        with torch.no_grad():  # an entry far from all features, and long unused
            made.codebook[3], made.cluster_size[3] = 100.0, 0.0
            alive = made.codebook[4].clone()
        run(made, x + 5, torch_generator(0, "latent", 1))
        assert torch.cdist(made.codebook[3:4], _rows(x + 5)).amin() < 1e-2
        assert (made.codebook[4] - alive).norm() < 0.5
        books.append(made.codebook.clone())
    assert torch.equal(books[0], books[2])
    assert torch.equal(books[1], books[3])


def _rows(x: Tensor) -> Tensor:
    return x.movedim(1, -1).flatten(0, -2)


def test_more_codes_than_vectors_are_reset_over_several_batches() -> None:
    codebook = quantizer(codes=256, dead_code_threshold=0.03).train()
    for step in range(40):  # 16 vectors each
        run(codebook, features(step, 1, scale=10.0))
    assert (codebook.cluster_size > 0).float().mean() > 0.8
    assert len(codebook.codebook[codebook.cluster_size > 0].unique(dim=0)) > 100  # of a single batch: at most 16


def test_the_dead_may_lie_and_evaluation_moves_nothing() -> None:
    made = quantizer(dead_code_threshold=0.0)
    run(made, features(scale=0.01) + 3, torch_generator(0))
    assert (made.cluster_size > 0).sum() < CODES
    raised = quantizer(dead_code_threshold=0.03).eval()
    before = {name: value.clone() for name, value in raised.state_dict().items()}
    run(raised, features(), torch_generator(0))
    assert all(torch.equal(value, before[name]) for name, value in raised.state_dict().items())


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_features_that_are_not_finite_reach_no_entry_that_a_skipped_step_would_keep(update: Any) -> None:
    made = quantizer(update=update, dead_code_threshold=0.03)
    run(made, features(), torch_generator(0))
    before = made.codebook.clone()
    run(made, features() * float("nan"), torch_generator(1))
    if update == "gradient":  # a parameter, which is not put back as buffers are
        assert torch.equal(made.codebook, before)


def test_half_precision_features_are_compared_in_float32() -> None:
    made = quantizer().eval()
    x = features(scale=0.01) + made.codebook[0].view(1, -1, 1, 1)
    with torch.autocast("cpu", torch.bfloat16):
        found = run(made, x.bfloat16())
    assert found.latent.dtype == found.terms["commitment"].dtype == torch.float32
    assert torch.equal(found.posterior.codes, made.posterior(x.bfloat16().float()).codes)


def test_a_dimension_is_needed() -> None:
    with pytest.raises(ConfigError, match="'latent' is missing"):
        VQ(None)


def test_the_nearest_of_many_codes_is_found_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, entries = (torch.randn(count, 4, generator=torch_generator(0, count)) for count in (301, 77))
    whole = nearest_codes(vectors, entries)
    monkeypatch.setattr("convae.model.quantizers._nearest.CHUNK", 500)
    assert torch.equal(nearest_codes(vectors, entries), whole)
    assert torch.equal(whole, torch.cdist(vectors.double(), entries.double()).argmin(1))


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_cosine_and_rotation_are_those_of_vector_quantize_pytorch(distance: Any) -> None:
    ours = quantizer(decay=0.9, distance=distance, estimator="rotation")
    theirs = library().VectorQuantize(
        dim=CHANNELS,
        codebook_size=CODES,
        decay=0.9,
        commitment_weight=1.0,
        accept_image_fmap=True,
        rotation_trick=True,
        use_cosine_sim=distance == "cosine",
    )
    with torch.no_grad():
        ours.cluster_size.fill_(1)
        ours.embed_sum.copy_(ours.codebook)
        theirs.state_dict()["_codebook.embed"].copy_(ours.codebook[None])
        theirs.state_dict()["_codebook.embed_avg"].copy_(ours.codebook[None])
        theirs.state_dict()["_codebook.cluster_size"].fill_(1)
    for step in range(4):
        x, again = (features(step, scale=2.0).requires_grad_() for _ in range(2))
        found = run(ours, x)
        wanted, codes, loss = theirs(again)
        assert torch.equal(found.posterior.codes, codes)
        torch.testing.assert_close(found.latent, wanted, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(found.terms["commitment"].mean() / x[0].numel(), loss.squeeze())
        ((found.latent**3).sum() + found.terms["commitment"].sum()).backward()
        ((wanted**3).sum() + loss.sum() * x.numel()).backward()
        torch.testing.assert_close(x.grad, again.grad, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(ours.codebook, theirs.state_dict()["_codebook.embed"][0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_k_means_finds_the_clusters_of_the_first_batch(update: Any) -> None:
    made = quantizer(codes=40, init="k-means", update=update)
    centers = 10 * torch.randn(4, CHANNELS, generator=torch_generator(0, "centers"))
    x = features(scale=0.1) + centers[torch.arange(8) % 4][:, :, None, None]
    run(made, x, torch_generator(0, "latent"))
    distances = torch.cdist(_rows(x), made.codebook)
    assert distances.amin(1).square().mean() < 0.5 * torch.cdist(_rows(x), centers).amin(1).square().mean()
    before = made.codebook.clone()
    run(made, x, torch_generator(0, "latent", 1))
    assert (made.codebook - before).norm(dim=1).max() < 1
