"""Soft assignment of vectors to the codes of a codebook, without a matrix of all probabilities.

Forward and backward pass compute probabilities in chunks of codes, as in FlashAttention (Dao et al. 2022,
arXiv:2205.14135).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from convae.core.precision import full_precision
from convae.model.quantizers import _nearest


def soft_assignment(
    vectors: Float[Tensor, "vector channel"], codebook: Float[Tensor, "code channel"], temperature: float
) -> tuple[Float[Tensor, "vector channel"], Float[Tensor, " vector"], Float[Tensor, " code"]]:
    """Soft assignment with p(code) ∝ exp(vector · code / temperature), differentiable with respect to both arguments.

    Returns:
        The expected code vector of each vector; the entropy of each assignment, nats; and the sum of p over the
        vectors. The gradient of the expected code vector flows through p only.
    """
    mean, entropy, total = _SoftAssignment.apply(vectors, codebook, temperature)  # type: ignore[no-untyped-call]  # untyped in torch
    return mean, entropy, total


def _chunks(vectors: Tensor, codebook: Tensor, temperature: float) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Slices of the codebook, with their code vectors and logits."""
    size = max(1, _nearest.CHUNK // max(1, len(vectors)))
    for start in range(0, len(codebook), size):
        part = slice(start, start + size)
        yield part, codebook[part], vectors @ codebook[part].T / temperature


class _SoftAssignment(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vectors: Tensor, codebook: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
        with full_precision(vectors.device):
            sums = [logits.logsumexp(1) for _, _, logits in _chunks(vectors, codebook, temperature)]
            normalizer = torch.stack(sums).logsumexp(0)
            mean, total = torch.zeros_like(vectors), vectors.new_zeros(len(codebook))
            for part, codes, logits in _chunks(vectors, codebook, temperature):
                probabilities = (logits - normalizer[:, None]).exp_()
                mean += probabilities @ codes
                total[part] = probabilities.sum(0)
            entropy = normalizer - (vectors * mean).sum(1) / temperature
        ctx.save_for_backward(vectors, codebook, normalizer, mean, entropy)
        ctx.temperature = temperature
        return mean, entropy, total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        to_mean, to_entropy, to_total = gradients
        vectors, codebook, normalizer, mean, entropy = ctx.saved_tensors
        with full_precision(vectors.device):
            # The softmax gradient is p · (gradient − expected gradient under p).
            expected = (to_mean * mean).sum(1)
            for part, _, logits in _chunks(vectors, codebook, ctx.temperature):
                expected += (logits - normalizer[:, None]).exp_() @ to_total[part]
            to_vectors, to_codes = torch.zeros_like(vectors), torch.empty_like(codebook)
            for part, codes, logits in _chunks(vectors, codebook, ctx.temperature):
                log_p = logits - normalizer[:, None]
                change = to_mean @ codes.T + to_total[part] - expected[:, None]
                change -= to_entropy[:, None] * (log_p + entropy[:, None])
                change *= log_p.exp_()
                to_vectors += change @ codes / ctx.temperature
                to_codes[part] = change.T @ vectors / ctx.temperature
        return to_vectors, to_codes, None
