"""Small models for the tests of this folder."""

from __future__ import annotations

import pytest

import convae
from convae.model.vae import VAE


@pytest.fixture
def model() -> VAE:
    """A model with convolutions, norms, linear maps, and an odd, non-square input; in evaluation mode."""
    spec = {"preset": "torch-vae", "input": [2, 11, 14], "latent": 3, "max_filters": 8}
    return convae.build(spec, seed=1).eval()
