"""Lookup-free quantization."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field

from convae.core.arguments import NonNegativeFloat, PositiveFloat
from convae.core.context import Context
from convae.core.precision import with_gradient_of
from convae.core.types import Latents
from convae.model.quantizers._binary import bits_to_codes, codes_to_signs
from convae.model.quantizers._entropy import entropy_cost, entropy_of, entropy_of_bits, joint_marginal
from convae.model.quantizers.base import CodeIndices, Quantizer, require_channels, squared_distance, to_vectors

MAX_BITS = 24


class LFQ(Quantizer):
    """Lookup-free quantization: the sign of each channel is a bit of the code (Yu et al. 2023, arXiv:2310.05737).

    The objective must contain the terms `commitment` and `entropy`. For p(code | vector) ∝ exp(−distance /
    temperature), the latter is the entropy of the assignment of each vector minus `diversity` times that of the mean
    assignment of the batch, summed over the vectors of an image, nats: assignments become certain, and usage even. It
    is exact over all 2^bits codes and the global batch. The first channel is the most significant bit of the code
    index.

    Args:
        channels: number of channels of a vector, equal to `bits`.
        bits: number of bits of a code.
        temperature: temperature of the soft assignments in the entropy term.
        diversity: factor on the entropy of the mean assignment.
    """

    example: ClassVar = {"bits": 3}
    required_terms: tuple[str, ...] = ("commitment", "entropy")
    residual_scale = 0.5

    def __init__(
        self,
        channels: int | None,
        *,
        bits: Annotated[int, Field(ge=1, le=MAX_BITS)],
        temperature: PositiveFloat = 0.01,
        diversity: NonNegativeFloat = 1.0,
    ) -> None:
        super().__init__(require_channels(channels, bits, f"one for each of its {bits} bits"))
        self.temperature, self.diversity = temperature, diversity
        self.codebook_sizes = (1 << bits,)

    def embed_codes(self, codes: CodeIndices) -> Latents:
        """Code vectors of −1 and 1, (batch, channel, *grid), of code indices, (batch, *grid)."""
        return codes_to_signs(codes, self.channels)

    def nearest(self, values: Latents) -> CodeIndices:
        """The code of the signs of each vector, (batch, *grid)."""
        return bits_to_codes(values > 0)

    def quantize(self, values: Latents, context: Context, stream: str) -> tuple[Latents, CodeIndices]:
        """Code vectors, with a straight-through gradient, and codes; reports `commitment` and `entropy`."""
        codes = self.nearest(values.detach())
        signs = self.embed_codes(codes).to(values.dtype)
        context.report_term("commitment", squared_distance(values, signs), stream)
        if not torch.compiler.is_exporting():
            logits = 4 * values / self.temperature
            marginal = entropy_of(joint_marginal(to_vectors(logits)))
            context.report_term(
                "entropy", entropy_cost(entropy_of_bits(logits).sum(1), marginal, self.diversity), stream
            )
        return with_gradient_of(signs, values), codes
