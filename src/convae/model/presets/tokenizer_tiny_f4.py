"""A small image tokenizer at factor 4."""

from __future__ import annotations

from convae.model.presets._tokenizer import tokenizer_preset

tokenizer_tiny_f4 = tokenizer_preset(
    __name__,
    "A small image tokenizer at factor 4, for two cores",
    multiples=(1, 2, 4),
    blocks=(1, 2),
    size=64,
    latent=4,
    width=16,
)
