"""Index backpropagation, against a transcription of the paper with dense tables."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from quantizing import gradient, run, values
from torch import Tensor
from torch.nn import functional as F

from convae.core.random import torch_generator
from convae.model.quantizers.base import squared_distance, to_grid, to_vectors
from convae.model.quantizers.ibq import IBQ

CHANNELS, CODES = 3, 11


def quantizer() -> IBQ:
    made = IBQ(CHANNELS, codes=CODES, temperature=0.5, diversity=0.8)
    with torch.no_grad():
        made.codebook.copy_(torch.randn(CODES, CHANNELS, generator=torch_generator(0, "codes")))
    return made


def transcribed(made: IBQ, x: Tensor) -> SimpleNamespace:
    """The quantizer of the paper: one-hot choices with the gradient of the softmax."""
    logits = to_vectors(x) @ made.codebook.T
    soft, codes = logits.softmax(1), logits.argmax(1)
    hard = F.one_hot(codes, CODES).to(x.dtype)
    chosen = hard - soft.detach() + soft
    latent = to_grid(chosen @ made.codebook, x).movedim(-1, 1)
    plain = to_grid(hard @ made.codebook, x).movedim(-1, 1)
    sharp = (logits / made.temperature).softmax(1)
    each = torch.special.entr(sharp).sum(1).view(len(x), -1).sum(1)
    return SimpleNamespace(
        latent=latent,
        codes=to_grid(codes, x),
        commitment=squared_distance(x, plain.detach()),
        codebook=squared_distance(x.detach(), plain) + squared_distance(x, latent),
        entropy=each - made.diversity * 16 * torch.special.entr(sharp.mean(0)).sum(),
    )


@pytest.mark.parametrize("chunk", [1 << 22, 300])
def test_values_terms_and_gradients_are_those_of_the_paper(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convae.model.quantizers._nearest.CHUNK", chunk)
    made = quantizer()
    x = values(CHANNELS).requires_grad_()
    found, wanted = run(made, x), transcribed(made, x)
    assert torch.equal(found.codes, wanted.codes)
    torch.testing.assert_close(found.latent, wanted.latent, rtol=1e-6, atol=1e-6)
    for name in ("commitment", "codebook", "entropy"):
        torch.testing.assert_close(found.terms[name], getattr(wanted, name), rtol=1e-6, atol=1e-5)
    for leaf in (x, made.codebook):
        pairs = [(found.latent**3, wanted.latent**3)]
        pairs += [(found.terms[name], getattr(wanted, name)) for name in ("codebook", "entropy")]
        for ours, theirs in pairs:
            torch.testing.assert_close(gradient(ours, leaf), gradient(theirs, leaf), rtol=1e-4, atol=1e-4)


def test_the_gradient_reaches_codes_that_no_vector_became() -> None:
    made = quantizer()
    found = run(made, values(CHANNELS, count=1))
    unused = torch.ones(CODES, dtype=torch.bool)
    unused[found.codes.unique()] = False
    assert unused.any()
    assert gradient(found.latent.square(), made.codebook)[unused].any(1).all()


def test_a_new_codebook_passes_gradients_to_the_encoder() -> None:
    made = IBQ(16, codes=512)
    x = torch.randn(8, 16, 4, 4, requires_grad=True)
    direction = torch.randn(8, 16, 4, 4)
    found = gradient(run(made, x).latent * direction, x)
    # The softmax over short code vectors is flat: with ones of length 1/512 the ratio is 1e-6.
    assert float(found.norm()) > 0.1 * float(direction.norm())
