"""Binary spherical quantization, against vector-quantize-pytorch and the entropy of the paper."""

from __future__ import annotations

import math

import torch
from quantizing import gradient, library, run, values
from torch.nn import functional as F

from convae.model.quantizers.base import to_vectors
from convae.model.quantizers.bsq import BSQ

BITS = 5


def test_values_and_gradients_are_those_of_vector_quantize_pytorch() -> None:
    ours = BSQ(None, bits=BITS)
    oracle = library().LFQ(dim=BITS, codebook_size=1 << BITS, spherical=True)
    x, again = (values(BITS).requires_grad_() for _ in range(2))
    found = run(ours, x)
    wanted, codes, _ = oracle(again)
    assert torch.equal(found.codes, codes.long())
    torch.testing.assert_close(found.latent, wanted, rtol=0, atol=1e-6)
    torch.testing.assert_close(gradient(found.latent**3, x), gradient(wanted**3, again), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(torch.linalg.vector_norm(found.latent, dim=1), torch.ones(8, 4, 4))


def test_the_entropy_is_that_of_the_paper() -> None:
    ours = BSQ(None, bits=BITS, temperature=0.8, diversity=0.6)
    x = values(BITS).double()
    unit = F.normalize(to_vectors(x), dim=1)
    # Distances to all codes; the entropy of each assignment, and of each bit's mean assignment.
    codes = 2 * ((torch.arange(1 << BITS)[:, None] >> torch.arange(BITS)) % 2).double() - 1
    soft = (2 * unit @ codes.T / math.sqrt(BITS) / 0.8).softmax(1)
    each = torch.special.entr(soft).sum(1).view(8, -1).sum(1)
    bits = soft.mean(0) @ (codes + 1) / 2
    marginal = (torch.special.entr(bits) + torch.special.entr(1 - bits)).sum()
    torch.testing.assert_close(run(ours, x).terms["entropy"], each - 0.6 * 16 * marginal, rtol=1e-6, atol=1e-6)
