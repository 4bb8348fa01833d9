"""Lookup-free quantization, against vector-quantize-pytorch."""

from __future__ import annotations

import itertools

import pytest
import torch
from quantizing import gradient, library, run, values
from torch.nn import functional as F

from convae.core.errors import ShapeError
from convae.model.quantizers import _entropy
from convae.model.quantizers.base import to_vectors
from convae.model.quantizers.lfq import LFQ


@pytest.mark.parametrize("bits", [1, 2, 5])
def test_values_terms_and_gradients_are_those_of_vector_quantize_pytorch(bits: int) -> None:
    ours = LFQ(None, bits=bits, temperature=8.0, diversity=0.7)
    oracle = library().LFQ(dim=bits, codebook_size=1 << bits, diversity_gamma=0.7, entropy_loss_weight=1.0)
    x, again = (values(bits).requires_grad_() for _ in range(2))
    found = run(ours, x)
    (wanted, codes, _), losses = oracle(again, inv_temperature=0.125, return_loss_breakdown=True)
    assert torch.equal(found.codes, codes.long())
    torch.testing.assert_close(found.latent, wanted, rtol=0, atol=1e-6)
    # Theirs are means over vectors and values, ours sums for each image.
    entropy = losses.per_sample_entropy - 0.7 * losses.batch_entropy
    torch.testing.assert_close(found.terms["entropy"].mean() / 16, entropy, rtol=1e-6, atol=1e-6)
    commitment = found.terms["commitment"].mean() / x[0].numel()
    torch.testing.assert_close(commitment, F.mse_loss(again, wanted.detach()), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(
        gradient(found.terms["entropy"].mean() / 16, x), gradient(entropy, again), rtol=1e-5, atol=1e-7
    )
    torch.testing.assert_close(gradient(found.latent**3, x), gradient(wanted**3, again), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(ours.embed_codes(codes.long()), oracle.indices_to_codes(codes), rtol=0, atol=1e-6)


def test_the_marginal_is_that_of_all_products_of_bits() -> None:
    logits = to_vectors(values(5))
    bits = logits.sigmoid()
    table = [
        torch.stack([bits[:, place] if one else 1 - bits[:, place] for place, one in enumerate(code)]).prod(0).mean()
        for code in itertools.product([0, 1], repeat=5)
    ]
    torch.testing.assert_close(_entropy.joint_marginal(logits), torch.stack(table))


def test_two_to_the_eighteenth_codes_need_no_table() -> None:
    ours = LFQ(None, bits=18)
    x = values(18).requires_grad_()
    found = run(ours, x)
    assert ours.codebook_sizes == (1 << 18,)
    assert found.codes.max() > 1 << 16
    assert gradient(found.terms["entropy"], x).isfinite().all()


def test_certain_and_even_assignments_have_the_least_entropy() -> None:
    ours = LFQ(None, bits=3)
    codes = torch.arange(8).view(8, 1, 1).expand(8, 4, 4)
    even = run(ours, ours.embed_codes(codes)).terms["entropy"]
    torch.testing.assert_close(even, torch.full((8,), -16 * 3 * torch.tensor(2.0).log().item()))
    one = run(ours, ours.embed_codes(torch.zeros_like(codes))).terms["entropy"]
    torch.testing.assert_close(one, torch.zeros(8))


def test_channels_are_bits() -> None:
    with pytest.raises(ShapeError, match="3 channels"):
        LFQ(4, bits=3)
