"""Figures of reconstructions equal those of torchmetrics."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from narrow import narrow
from PIL import Image
from torch import Tensor
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

import convae
from convae.core.errors import ConfigError
from convae.data import DataConfig, Split, in_order, open_split
from convae.evaluation import evaluate
from convae.model.vae import VAE

SCALES = 2
WEIGHTS = (0.0448, 0.2856)  # of the two finest scales; the rest of the sum is shared in proportion
WHOLE = sum((0.0448, 0.2856, 0.3001, 0.2363, 0.1333))


@pytest.fixture
def photos(tmp_path: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Split:
    """Five smooth pictures with noise, 3×40×48."""
    monkeypatch.setenv("CONVAE_CACHE", str(shared_cache))
    (tmp_path / "photos").mkdir()
    generator = np.random.default_rng(0)
    for number in range(5):
        ramps = np.linspace(0, 200, 48)[None, :, None] * generator.random(3) + np.linspace(0, 40, 40)[:, None, None]
        pixels = (ramps + generator.random((40, 48, 3)) * 15).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    return open_split(DataConfig(source=str(tmp_path / "photos")), "all")


@pytest.fixture
def halves() -> VAE:
    return convae.build(
        {
            "input": [3, 40, 48],
            "encoder": [{"conv": {"channels": 4, "stride": 2}}],
            "bottleneck": {"gaussian": {"latent": 2}},
            "decoder": [{"conv-transpose": {"channels": 3, "stride": 2}}],
        }
    )


def test_every_images_figure_is_that_of_torchmetrics(halves: VAE, photos: Split) -> None:
    names = ["psnr", "ssim", "ms-ssim"]
    rows = evaluate(halves, photos, metrics=names, options={"ms-ssim": {"scales": SCALES}}).rows
    (batch,) = in_order(photos, 5)
    with torch.no_grad():
        decoded = halves.decode(halves.encode(batch.images).mean).mean
    for place in range(5):
        pair = decoded[place : place + 1].double(), batch.images[place : place + 1].double().contiguous()
        wanted = {
            "psnr": peak_signal_noise_ratio(*pair, data_range=1.0),
            "ssim": structural_similarity_index_measure(*pair, data_range=1.0),
            "ms-ssim": multiscale_structural_similarity_index_measure(
                *pair, data_range=1.0, betas=tuple(weight / sum(WEIGHTS) * WHOLE for weight in WEIGHTS)
            ),
        }
        for name in names:
            assert float(rows[name][place]) == pytest.approx(narrow(Tensor, wanted[name]).item(), abs=1e-5)


@pytest.mark.parametrize("binarize", ["fixed", "threshold", None])
def test_bits_of_a_bernoulli_likelihood_are_those_of_binary_images(binarize: str | None) -> None:
    split = open_split(DataConfig(source="digits", binarize=binarize), "test")
    model = convae.build(
        {
            "input": [1, 8, 8],
            "encoder": ["flatten"],
            "bottleneck": {"gaussian": {"latent": 2}},
            "decoder": [{"linear": {"features": 64}}, {"unflatten": {"to": [1, 8, 8]}}],
            "likelihood": "bernoulli",
        }
    )
    found = evaluate(model, split).metrics
    assert ("bits-per-dimension" in found) is (binarize is not None)
    if binarize:
        bits = -narrow(float, found["elbo"].value) / (64 * math.log(2))
        assert found["bits-per-dimension"].value == pytest.approx(bits)
    else:
        with pytest.raises(ConfigError, match="bernoulli and binary images"):
            evaluate(model, split, metrics=["bits-per-dimension"])
