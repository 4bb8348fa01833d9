"""DINOv2 from a file, against the transformer encoder of torch; weights are random and small."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from convae.core.errors import ArtifactError, ConfigError, ShapeError
from convae.core.random import torch_generator
from convae.features import build_feature_network
from convae.features.networks.dinov2 import SCALE, SHIFT, DINOv2
from convae.model.weights import sha256_of
from convae.testing import check_feature_network

WIDTH, DEPTH, SIDE, PATCH = 128, 3, 3, 14
State = dict[str, Tensor]


def weights(hidden: int = 4 * WIDTH, registers: int = 0, gated: bool = False) -> State:
    """Random tensors by the names of the original."""
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, WIDTH),
        "mask_token": (1, WIDTH),
        "pos_embed": (1, SIDE**2 + 1, WIDTH),
        "patch_embed.proj.weight": (WIDTH, 3, PATCH, PATCH),
        "patch_embed.proj.bias": (WIDTH,),
        "norm.weight": (WIDTH,),
        "norm.bias": (WIDTH,),
    }
    if registers:
        shapes["register_tokens"] = (1, registers, WIDTH)
    mlp = {"fc1": (hidden, WIDTH), "fc2": (WIDTH, hidden)}
    if gated:
        mlp = {"w12": (2 * hidden, WIDTH), "w3": (WIDTH, hidden)}
    for number in range(DEPTH):
        linear = {"attn.qkv": (3 * WIDTH, WIDTH), "attn.proj": (WIDTH, WIDTH)}
        linear |= {f"mlp.{name}": shape for name, shape in mlp.items()}
        block: dict[str, tuple[int, ...]] = {f"{name}.weight": shape for name, shape in linear.items()}
        block |= {f"{name}.bias": shape[:1] for name, shape in linear.items()}
        block |= {f"norm{place}.{what}": (WIDTH,) for place in (1, 2) for what in ("weight", "bias")}
        block |= {"ls1.gamma": (WIDTH,), "ls2.gamma": (WIDTH,)}
        shapes |= {f"blocks.{number}.{name}": shape for name, shape in block.items()}
    return {
        name: 0.2 * torch.randn(shape, generator=torch_generator(0, "weights", name)) for name, shape in shapes.items()
    }


def written(state: State, path: Path) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return path


def as_transformers(state: State) -> State:
    """The same tensors by the names of `facebook/dinov2-small` and the like on the Hub."""
    found: State = {}
    for name, tensor in state.items():
        here = re.sub(r"^blocks\.", "encoder.layer.", name)
        if ".attn.qkv." in here:
            for part, piece in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                found[here.replace(".attn.qkv.", f".attention.attention.{part}.")] = piece
            continue
        here = here.replace(".attn.proj.", ".attention.output.dense.")
        here = re.sub(r"\.ls(\d)\.gamma", r".layer_scale\1.lambda1", here)
        here = here.replace(".mlp.w12.", ".mlp.weights_in.").replace(".mlp.w3.", ".mlp.weights_out.")
        here = re.sub(r"^norm\.", "layernorm.", here)
        here = here.replace("patch_embed.proj.", "embeddings.patch_embeddings.projection.")
        here = here.replace("pos_embed", "embeddings.position_embeddings")
        found[re.sub(r"^(cls|mask|register)_", r"embeddings.\1_", here)] = tensor
    return found


def tokens_of_torch(state: State, images: Tensor, positions: Tensor) -> list[Tensor]:
    """Normalized tokens after each block: `nn.TransformerEncoderLayer`, with the layer scale in its linear layers."""
    x = (images - torch.tensor(SHIFT)[:, None, None]) / torch.tensor(SCALE)[:, None, None]
    patches = F.conv2d(x, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=PATCH)
    y = torch.cat([state["cls_token"].expand(len(x), -1, -1), patches.flatten(2).transpose(1, 2)], 1) + positions
    if "register_tokens" in state:
        y = torch.cat([y[:, :1], state["register_tokens"].expand(len(x), -1, -1), y[:, 1:]], 1)
    found = []
    for number in range(DEPTH):
        own = {name.removeprefix(f"blocks.{number}."): tensor for name, tensor in state.items()}
        layer = nn.TransformerEncoderLayer(
            WIDTH,
            WIDTH // 64,
            len(own["mlp.fc1.bias"]),
            0,
            "gelu",
            layer_norm_eps=1e-6,
            batch_first=True,
            norm_first=True,
        ).eval()
        loaded = {f"norm{place}.{what}": own[f"norm{place}.{what}"] for place in (1, 2) for what in ("weight", "bias")}
        for what in ("weight", "bias"):
            loaded[f"self_attn.in_proj_{what}"] = own[f"attn.qkv.{what}"]
            loaded[f"linear1.{what}"] = own[f"mlp.fc1.{what}"]
            for name, source, scale in (("self_attn.out_proj", "attn.proj", "ls1"), ("linear2", "mlp.fc2", "ls2")):
                gamma = own[f"{scale}.gamma"]
                value = own[f"{source}.{what}"]
                loaded[f"{name}.{what}"] = value * (gamma[:, None] if value.ndim == 2 else gamma)
        layer.load_state_dict(loaded)
        with torch.no_grad():
            y = layer(y)
        found.append(F.layer_norm(y, (WIDTH,), state["norm.weight"], state["norm.bias"], 1e-6))
    return found


@pytest.mark.parametrize(("registers", "grid"), [(0, SIDE), (0, 2), (4, SIDE), (4, 2)])
def test_it_is_the_transformer_of_torch(registers: int, grid: int, tmp_path: Path) -> None:
    state = weights(registers=registers)
    network = DINOv2(weights=written(state, tmp_path / "a.safetensors"), size=grid * PATCH)
    images = torch.rand(2, 3, grid * PATCH, grid * PATCH, generator=torch_generator(0, "images"))
    positions = state["pos_embed"]
    if grid != SIDE:
        # As the packages transformers and dinov2 resize them: with antialiasing where there are registers.
        square = positions[:, 1:].reshape(1, SIDE, SIDE, WIDTH).permute(0, 3, 1, 2)
        square = F.interpolate(square, (grid, grid), mode="bicubic", antialias=bool(registers))
        positions = torch.cat([positions[:, :1], square.permute(0, 2, 3, 1).reshape(1, -1, WIDTH)], 1)
    wanted = tokens_of_torch(state, images, positions)
    torch.testing.assert_close(network(images), wanted[-1][:, 0], rtol=1e-4, atol=1e-5)
    maps = network.maps(images)
    assert network.layers == list(range(DEPTH))
    for own, tokens in zip(maps, wanted, strict=True):
        there = tokens[:, 1 + registers :].reshape(2, grid, grid, WIDTH).permute(0, 3, 1, 2)
        torch.testing.assert_close(own, there, rtol=1e-4, atol=1e-5)


def test_a_gated_network_is_its_formula(tmp_path: Path) -> None:
    state = weights(hidden=88, gated=True)
    network = DINOv2(weights=written(state, tmp_path / "g.safetensors"), size=SIDE * PATCH)
    block = network.network.blocks[0]
    assert isinstance(block.mlp, nn.Module)
    x = torch.randn(2, 5, WIDTH, generator=torch_generator(0, "tokens"))
    gate, value = F.linear(x, state["blocks.0.mlp.w12.weight"], state["blocks.0.mlp.w12.bias"]).split(88, -1)
    wanted = F.linear(gate * gate.sigmoid() * value, state["blocks.0.mlp.w3.weight"], state["blocks.0.mlp.w3.bias"])
    torch.testing.assert_close(block.mlp(x), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("gated", [False, True])
def test_files_of_transformers_give_the_same_features(gated: bool, tmp_path: Path) -> None:
    state = weights(88 if gated else 512, 0 if gated else 2, gated)
    torch.save(state, tmp_path / "original.pth")
    hub = written(as_transformers(state), tmp_path / "model.safetensors")
    images = torch.rand(2, 1, 20, 30, generator=torch_generator(0, "images"))
    one, other = (DINOv2(weights=path, size=42) for path in (tmp_path / "original.pth", hub))
    torch.testing.assert_close(one(images), other(images), rtol=0, atol=0)
    assert one(images).shape == (2, WIDTH)
    assert one.name != other.name
    assert other.name == f"dinov2-{sha256_of(hub)[:8]}"


def test_it_keeps_the_contract_and_its_file_may_be_pinned(tmp_path: Path) -> None:
    path = written(weights(), tmp_path / "a.safetensors")
    digest = sha256_of(path)
    check_feature_network("dinov2", {"weights": str(path), "size": 28, "sha256": digest.upper()}, (3, 20, 24))
    with pytest.raises(ArtifactError, match=digest):
        build_feature_network({"dinov2": {"weights": str(path), "sha256": "0" * 64}})
    with pytest.raises(ConfigError, match="multiple of the patch size 14"):
        DINOv2(weights=path, size=30)
    with pytest.raises(ShapeError, match="1 or 3 channels"):
        DINOv2(weights=path, size=28)(torch.zeros(1, 2, 28, 28))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"pos_embed": None}, "pos_embed"),
        ({"pos_embed": torch.zeros(1, 6, WIDTH)}, "square"),
        ({"patch_embed.proj.weight": torch.zeros(100, 3, 14, 14)}, "multiple of 64"),
        ({"blocks.0.mlp.fc2.weight": None}, "blocks.0.mlp.fc2.weight"),
        ({"blocks.1.attn.qkv.bias": None}, "blocks.1.attn.qkv.bias"),
        ({"head.weight": torch.zeros(2, WIDTH)}, "head.weight"),
    ],
)
def test_other_files_are_refused(change: dict[str, Tensor | None], named: str, tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in {**weights(), **change}.items() if tensor is not None}
    with pytest.raises(ArtifactError, match=re.escape(named)):
        DINOv2(weights=written(state, tmp_path / "other.safetensors"))
