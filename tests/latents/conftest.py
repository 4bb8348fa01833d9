from __future__ import annotations

from pathlib import Path

import pytest

import convae
from convae.data import DataConfig, Split, open_split
from convae.model.vae import VAE


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def digits(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Split:
    """The 202 test digits, 1×8×8."""
    monkeypatch.setenv("CONVAE_CACHE", str(cache))
    return open_split(DataConfig(source="digits"), "test")


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
