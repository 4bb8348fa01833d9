"""The mask of observed values: what it holds, what must agree with it, and what it is for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import convae
from convae.core.errors import ConfigError
from convae.core.random import torch_generator
from convae.data import DataConfig, in_order, open_split
from convae.describe import resolve
from convae.evaluation import evaluate
from convae.latents import impute
from convae.model.layers.observed_mask import ObservedMask

TRAINED = 1000
"""Images of a training; the others are held out."""


def test_values_and_mask_of_each_channel() -> None:
    x = torch.tensor([[[0.0, 0.5, 1.0], [0.5, 0.25, 0.5]]])
    found = ObservedMask((2, 3))(x)
    assert found.tolist() == [[[0, 0, 1], [0, 0.25, 0], [1, 0, 1], [0, 1, 0]]]


def test_no_integer_of_8_or_16_bits_is_taken_for_missing() -> None:
    for top in (255, 65535):
        values = (torch.arange(top + 1) / top).view(1, 1, -1)
        assert ObservedMask((1, top + 1))(values)[:, 1].min() == 1


def test_it_precedes_the_encoder_of_a_preset_and_recognizes_what_data_fills(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVAE_CACHE", str(tmp_path))
    written = {"preset": "torch-vae", "input": [1, 8, 8], "latent": 2, "max_filters": 4}
    plain, masked = resolve(written), resolve({**written, "input_layers": ["observed-mask"]})
    assert [layer.name for layer in masked.encoder] == ["observed-mask", *(layer.name for layer in plain.encoder)]
    batch = next(in_order(open_split(DataConfig(source="digits", missing=0.5, fill=0.5), "test"), 20))
    model = convae.build(masked)
    assert batch.weights is not None
    assert torch.equal(model.networks["encoder"][0](batch.images)[:, 1:], batch.weights)
    with pytest.raises(ConfigError, match=r"data\.fill=0\.5"):
        evaluate(model, open_split(DataConfig(source="digits", missing=0.5), "test"), metrics=["elbo"])


def test_another_fill_and_a_list_that_is_none_are_refused(tmp_path: Path) -> None:
    images, weights = copies(40)
    with pytest.raises(ConfigError, match=r"data\.fill=0\.25"):
        convae.train(
            {"data": {"missing": "nan", "fill": 0.5}, "model": describe([{"observed-mask": {"fill": 0.25}}])},
            data=torch.where(weights > 0, images, torch.nan),
            out=tmp_path / "run",
            quiet=True,
        )
    with pytest.raises(ConfigError, match="input_layers"):
        resolve({"preset": "torch-vae", "input_layers": "observed-mask"})


def test_missing_values_are_imputed_better_with_it() -> None:
    images, weights = copies(TRAINED + 500)
    errors = []
    for fill, layers in ((0.0, []), (0.5, ["observed-mask"])):
        model = convae.build(describe(layers))
        filled = torch.where(weights > 0, images, fill)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        for step in range(250):
            rows = torch.randperm(TRAINED, generator=torch_generator(0, "order", step))[:100]
            output = model(filled[rows], torch_generator(0, "latent", step))
            fit = output.likelihood.log_prob(filled[rows], weights[rows])
            optimizer.zero_grad()
            (0.5 * output.terms["kl"] - fit).mean().backward()
            optimizer.step()
        found, own = impute(model, filled[TRAINED:], weights[TRAINED:]), 1 - weights[TRAINED:]
        errors.append(float(((found - images[TRAINED:]).square() * own).sum() / own.sum()))
    assert errors[1] < 0.85 * errors[0], errors


def copies(count: int) -> tuple[Tensor, Tensor]:
    """Images of four rows that are equal, of zeros and ones; and weights, of which 30 % are 1.

    Where 0 takes the place of missing values, a column without a 1 may be one of zeros or one that is missing.
    """
    generator = torch_generator(0, "copies")
    images = torch.randint(0, 2, (count, 1, 1, 4), generator=generator).float().repeat(1, 1, 4, 1)
    weights = (torch.rand(images.shape, generator=generator) < 0.3).float()
    weights[weights.flatten(1).sum(1) == 0] = 1
    return images, weights


def describe(layers: list[Any]) -> dict[str, Any]:
    """A small VAE of such images, with layers before its encoder."""
    return {
        "input": [1, 4, 4],
        "encoder": [*layers, "flatten", {"linear": {"features": 64}}, "relu"],
        "bottleneck": {"gaussian": {"latent": 4}},
        "decoder": [
            {"linear": {"features": 64}},
            "relu",
            {"linear": {"features": 16}},
            {"unflatten": {"to": [1, 4, 4]}},
        ],
    }
