"""Binary spherical quantization."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch.nn import functional as F

from convae.core.context import Context
from convae.core.precision import with_gradient_of
from convae.core.slices import mean_of_sums
from convae.core.types import Latents
from convae.model.quantizers._binary import codes_to_signs
from convae.model.quantizers._entropy import entropy_cost, entropy_of_bits
from convae.model.quantizers.base import CodeIndices, squared_distance, to_vectors
from convae.model.quantizers.lfq import LFQ


class BSQ(LFQ):
    """Binary spherical quantization: vectors of norm 1, each channel ±1/√bits (Zhao et al. 2024, arXiv:2406.07548).

    As `lfq`, on the unit sphere: the distance of a vector to its code is bounded, so `commitment` is optional. The
    objective must contain the term `entropy`; the entropy of the mean assignment is the sum over bits, an upper bound.
    The first channel is the most significant bit of the code index.

    Args:
        channels: number of channels of a vector, equal to `bits`.
        bits: number of bits of a code.
        temperature: temperature of the soft assignments in the entropy term.
        diversity: factor on the entropy of the mean assignment.
    """

    example: ClassVar = {"bits": 3}
    required_terms = ("entropy",)

    def embed_codes(self, codes: CodeIndices) -> Latents:
        """Code vectors of norm 1, (batch, channel, *grid), of code indices, (batch, *grid)."""
        return codes_to_signs(codes, self.channels) / math.sqrt(self.channels)

    def quantize(self, values: Latents, context: Context, stream: str) -> tuple[Latents, CodeIndices]:
        """Code vectors, with a straight-through gradient to the normalized values, and codes; reports the terms."""
        codes = self.nearest(values.detach())
        unit = F.normalize(values, dim=1)
        code_vectors = self.embed_codes(codes).to(values.dtype)
        context.report_term("commitment", squared_distance(unit, code_vectors), stream)
        if not torch.compiler.is_exporting():
            logits = 4 / math.sqrt(self.channels) * unit / self.temperature
            vectors = to_vectors(logits)
            mean = mean_of_sums(torch.sigmoid(vectors).sum(0), len(vectors))
            marginal = entropy_of_bits(torch.logit(mean, eps=1e-6)).sum()
            context.report_term(
                "entropy", entropy_cost(entropy_of_bits(logits).sum(1), marginal, self.diversity), stream
            )
        return with_gradient_of(code_vectors, unit), codes
