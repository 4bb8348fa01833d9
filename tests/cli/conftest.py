from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import convae
from convae.model.provenance import Provenance


@pytest.fixture(autouse=True)
def no_data_but_the_tests_own(shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVAE_CACHE", str(shared_cache))
    monkeypatch.delenv("CONVAE_DATA", raising=False)


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of digits with fresh weights and a latent of 3 values."""
    model = convae.build(
        {
            "name": "tiny",
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
    model.provenance = Provenance(data={"source": "digits"})
    return convae.save(model, tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six small gray pictures in two nested folders."""
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for number in range(6):
        path = folder / ("cats/indoors" if number % 2 else "dogs") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (10, 12), np.uint8)).save(path)
    return folder
