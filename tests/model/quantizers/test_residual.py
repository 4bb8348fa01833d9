"""Residual quantization, against vector-quantize-pytorch, and what its options do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from quantizing import gradient, library, run, values
from torch import Tensor

from convae.core.noise import CountedNoise
from convae.core.random import torch_generator
from convae.model.quantizers.base import Quantizer
from convae.model.quantizers.residual import Residual
from convae.model.quantizers.vq import VQ

CHANNELS, CODES, LEVELS = 4, 8, 3


def quantizer(levels: int = LEVELS, **options: Any) -> Residual:
    entry = {"vq": {"codes": CODES, "dead_code_threshold": 0.0, "decay": 0.9}}
    made = Residual(CHANNELS, **{"levels": levels, "quantizer": entry, **options})
    with torch.no_grad():
        made.reset(torch_generator(0))
    return made


def inner(made: Residual) -> list[VQ]:
    return [each for each in made.quantizers if isinstance(each, VQ)]


def test_values_codes_terms_and_codebooks_are_those_of_vector_quantize_pytorch() -> None:
    ours = quantizer()
    oracle = library().ResidualVQ(
        dim=CHANNELS,
        num_quantizers=LEVELS,
        codebook_size=CODES,
        decay=0.9,
        accept_image_fmap=True,
        rotation_trick=False,
        kmeans_init=False,
    )
    with torch.no_grad():
        for each, theirs in zip(inner(ours), oracle.layers, strict=True):
            each.cluster_size.fill_(1)
            each.embed_sum.copy_(each.codebook)
            theirs.state_dict()["_codebook.embed"].copy_(each.codebook[None])
            theirs.state_dict()["_codebook.embed_avg"].copy_(each.codebook[None])
            theirs.state_dict()["_codebook.cluster_size"].fill_(1)
    for step in range(3):
        x = values(CHANNELS, scale=2.0, word=step)
        found = run(ours, x)
        wanted, codes, losses = oracle(x)
        assert torch.equal(found.codes.movedim(1, -1), codes)
        torch.testing.assert_close(found.latent, wanted, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(found.terms["commitment"].mean() / x[0].numel(), losses.sum(), rtol=1e-5, atol=1e-6)
        for each, theirs in zip(inner(ours), oracle.layers, strict=True):
            torch.testing.assert_close(each.codebook, theirs.state_dict()["_codebook.embed"][0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "entry", [{"vq": {"codes": CODES}}, {"fsq": {"levels": [5, 5]}}, {"lfq": {"bits": 3}}, {"simvq": {"codes": CODES}}]
)
def test_each_level_comes_closer_and_the_gradient_passes_once(entry: Any) -> None:
    distances = []
    for levels in (1, 2, 4):
        made: Quantizer = Residual(None if {"fsq", "lfq"} & set(entry) else CHANNELS, levels=levels, quantizer=entry)
        with torch.no_grad():
            made.reset(torch_generator(0))
        x = (0.5 * values(made.channels)).requires_grad_()
        for _ in range(30):
            found = run(made, x, torch_generator(0))
        distances.append((found.latent - x).square().mean().item())
        if "fsq" not in entry:
            assert torch.equal(gradient(found.latent * 3, x), torch.full_like(x, 3))
        assert found.codes.shape == ((8, 4, 4) if levels == 1 else (8, levels, 4, 4))
    if "simvq" not in entry:
        assert distances[0] > distances[1] > distances[2]


def test_a_shared_codebook_is_one() -> None:
    made = quantizer(shared=True)
    assert len(made.state_dict()) == 3
    assert made.codebook_sizes == (CODES,) * LEVELS
    codes = made.nearest(values(CHANNELS))
    book = inner(made)[0]
    torch.testing.assert_close(made.embed_codes(codes), sum(book.embed_codes(own) for own in codes.unbind(1)))


def test_dropout_uses_the_first_levels_in_training_the_same_for_every_slice() -> None:
    made = quantizer(dropout=1.0)
    x = values(CHANNELS)
    steps = [partial_sums(made, x, CountedNoise(0, (step,), 0, 8)) for step in range(20)]
    assert {kept for kept, _ in steps} == {1, 2, 3}
    again = partial_sums(made, x[4:], CountedNoise(0, (7,), 4, 8))
    assert again[0] == steps[7][0]
    made.eval()
    assert partial_sums(made, x, None)[0] == LEVELS


def partial_sums(made: Residual, x: Tensor, noise: Any) -> tuple[int, Tensor]:
    """With how many levels a pass was computed."""
    books = [each.codebook.clone() for each in inner(made)]
    found = run(made, x, noise)
    total = torch.zeros_like(x)
    for level, book in enumerate(books):
        total = total + book[found.codes[:, level]].movedim(-1, 1)
        if torch.allclose(total, found.latent, atol=1e-5):
            return level + 1, found.latent
    raise AssertionError("the latent is no sum of the first levels")
