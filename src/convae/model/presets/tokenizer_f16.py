"""An image tokenizer at factor 16 for one GPU."""

from __future__ import annotations

from convae.model.presets._tokenizer import tokenizer_preset

tokenizer_f16 = tokenizer_preset(
    __name__,
    "An image tokenizer at factor 16, for one GPU",
    multiples=(1, 2, 4, 4, 8),
    blocks=(2, 3),
    size=256,
    latent=32,
    width=64,
)
