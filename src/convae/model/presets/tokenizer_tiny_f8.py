"""A small image tokenizer at factor 8."""

from __future__ import annotations

from convae.model.presets._tokenizer import tokenizer_preset

tokenizer_tiny_f8 = tokenizer_preset(
    __name__,
    "A small image tokenizer at factor 8, for two cores",
    multiples=(1, 2, 4, 8),
    blocks=(1, 2),
    size=64,
    latent=8,
    width=16,
)
