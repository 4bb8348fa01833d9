"""A description is that of its model as long as nobody changes the modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from narrow import narrow

import convae
from convae.core.errors import ConfigError
from convae.model.layers.base.network import Network
from convae.model.vae import VAE


def exchange_encoder(model: VAE) -> None:
    model.encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(308, 32))


def exchange_layer(model: VAE) -> None:
    narrow(torch.nn.Sequential, model.encoder)[2] = torch.nn.ReLU()


def exchange_head(model: VAE) -> None:
    model.head = convae.build({**model.spec.model_dump(), "likelihood": {"gaussian": {"sigma": 0.3}}}).head


def append(model: VAE) -> None:
    narrow(torch.nn.Sequential, model.decoder).append(torch.nn.Identity())


@pytest.mark.parametrize("change", [exchange_encoder, exchange_layer, exchange_head, append])
def test_a_model_that_is_not_as_described_is_not_saved(model: VAE, tmp_path: Path, change: Any) -> None:
    change(model)
    with pytest.raises(ConfigError, match="after the model was built"):
        convae.save(model, tmp_path / "changed")
    assert not list(tmp_path.iterdir())


def test_an_exchanged_encoder_encodes_and_decodes(model: VAE) -> None:
    width = narrow(Network, model.encoder).shape_out[0]
    model.encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(308, width))
    x = torch.rand(2, *model.input_shape)
    assert model.decode(model.encode(x).mean).mean.shape == x.shape


def test_what_runs_set_on_modules_is_no_change(model: VAE) -> None:
    spec = model.spec
    encoder = narrow(Network, model.encoder)
    encoder.checkpointing = True
    model.use_slices(4)
    assert model.train().spec == spec
