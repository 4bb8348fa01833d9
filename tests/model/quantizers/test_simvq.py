"""Codes behind one linear layer, against vector-quantize-pytorch."""

from __future__ import annotations

import pytest
import torch
from quantizing import gradient, library, run, values

from convae.core.random import torch_generator
from convae.model.quantizers.simvq import SimVQ

CHANNELS = 4


@pytest.mark.parametrize("estimator", ["straight-through", "rotation"])
def test_values_terms_and_gradients_are_those_of_vector_quantize_pytorch(estimator: str) -> None:
    ours = SimVQ(CHANNELS, codes=20, estimator=estimator)  # type: ignore[arg-type]  # one of the two
    with torch.no_grad():
        ours.reset(torch_generator(0))
    oracle = library().SimVQ(dim=CHANNELS, codebook_size=20, channel_first=True, rotation_trick=estimator == "rotation")
    oracle.frozen_codebook.copy_(ours.base)
    oracle.code_transform.weight.data.copy_(ours.weight.data)
    x, again = (values(CHANNELS, scale=2.0).requires_grad_() for _ in range(2))
    found = run(ours, x)
    wanted, codes, loss = oracle(again)
    assert torch.equal(found.codes, codes)
    torch.testing.assert_close(found.latent, wanted, rtol=1e-6, atol=1e-6)
    terms = (found.terms["codebook"] + 0.25 * found.terms["commitment"]).mean() / x[0].numel()
    torch.testing.assert_close(terms, loss, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradient(found.latent**3, x), gradient(wanted**3, again), rtol=1e-5, atol=1e-5)
    theirs = gradient(loss, oracle.code_transform.weight)
    torch.testing.assert_close(gradient(terms, ours.weight), theirs, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.embed_codes(codes), oracle.indices_to_codes(codes), rtol=1e-6, atol=1e-6)
