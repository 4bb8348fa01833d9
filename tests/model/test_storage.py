"""Weights in their own dtype, and in half precision in the file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import convae
from convae.core.errors import ArtifactError, ConfigError
from convae.model.artifact import read_config
from convae.model.storage import StoragePrecision
from convae.model.vae import VAE


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_model_comes_back_in_its_type(model: VAE, tmp_path: Path, dtype: torch.dtype) -> None:
    again = convae.load(convae.save(model.to(dtype), tmp_path / "typed"))
    assert {tensor.dtype for tensor in again.state_dict().values()} == {dtype}
    x = torch.rand(2, *model.input_shape)
    assert torch.equal(again.encode(x).mean, model.encode(x).mean)


@pytest.mark.parametrize("storage", ["float16", "bfloat16"])
def test_weights_stored_in_half_precision_are_loaded_in_the_type_of_the_model(
    model: VAE, tmp_path: Path, storage: StoragePrecision
) -> None:
    whole, half = convae.save(model, tmp_path / "whole"), convae.save(model, tmp_path / "half", storage=storage)
    assert read_config(half).storage == storage
    stored = load_file(half / "model.safetensors")
    assert sum(each.nbytes for each in load_file(whole / "model.safetensors").values()) == 2 * sum(
        each.nbytes for each in stored.values()
    )
    again = convae.load(half)
    for name, tensor in model.state_dict().items():
        assert again.state_dict()[name].dtype == tensor.dtype
        assert torch.equal(again.state_dict()[name], tensor.to(stored[name].dtype).to(tensor.dtype))
    assert read_config(convae.save(again, tmp_path / "again")).storage is None


def test_only_some_weights_are_stored_in_half_precision(model: VAE, tmp_path: Path) -> None:
    state = model.state_dict()
    names = [name for name, tensor in state.items() if tensor.is_floating_point()]
    folder = convae.save(model, tmp_path / "some", storage={names[0]: "float16", names[1]: "bfloat16"})
    stored = load_file(folder / "model.safetensors")
    assert [stored[name].dtype for name in names[:3]] == [torch.float16, torch.bfloat16, torch.float32]
    again = convae.load(folder).state_dict()
    assert all(torch.equal(again[name], stored[name].to(state[name].dtype)) for name in state)
    with pytest.raises(ConfigError, match="storage: the model has no tensor 'other'"):
        convae.save(model, tmp_path / "other", storage={"other": "float16"})


def test_a_weight_too_large_for_its_storage_is_refused(model: VAE, tmp_path: Path) -> None:
    next(model.parameters()).data.flatten()[0] = 1e5
    with pytest.raises(ArtifactError, match="bfloat16"):
        convae.save(model, tmp_path / "large", storage="float16")
    convae.save(model, tmp_path / "large", storage="bfloat16")
