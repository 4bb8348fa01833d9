from __future__ import annotations

import pytest

import convae
from convae.model.vae import VAE


@pytest.fixture
def model() -> VAE:
    """A small model with fresh weights and a latent of 3 values."""
    return convae.build(
        {
            "input": [1, 8, 8],
            "encoder": [{"conv": {"channels": 4, "stride": 2}}, "relu", "flatten"],
            "bottleneck": {"gaussian": {"latent": 3}},
            "decoder": [
                {"linear": {"features": 64}},
                {"unflatten": {"to": [4, 4, 4]}},
                {"conv-transpose": {"channels": 1, "stride": 2}},
            ],
        }
    )
