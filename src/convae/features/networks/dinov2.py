"""Vision transformers trained by self-supervision on 142 million images (DINOv2)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convae.core.arguments import Positive
from convae.core.errors import ArtifactError, ConfigError
from convae.core.types import Images
from convae.features.networks.base import FeatureNetwork, as_colors
from convae.model.weights import State, fill, read_state, sha256_of

SHIFT, SCALE = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of the colors of ImageNet."""
HEAD = 64
"""Channels of an attention head, in all published sizes."""
MAPS = 4
"""Number of layers whose features are compared, evenly spaced in depth."""
FROM_TRANSFORMERS = {
    "embeddings.patch_embeddings.projection.": "patch_embed.proj.",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.": "",
    "encoder.layer.": "blocks.",
    "layernorm.": "norm.",
    ".attention.output.dense.": ".attn.proj.",
    ".layer_scale1.lambda1": ".ls1.gamma",
    ".layer_scale2.lambda1": ".ls2.gamma",
    ".mlp.weights_in.": ".mlp.w12.",
    ".mlp.weights_out.": ".mlp.w3.",
}
"""Names in the files of the package transformers, with those of the original."""
_QKV = ("query", "key", "value")


class _Attention(nn.Module):
    """Self-attention of tokens (batch, token, channel)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // HEAD
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).unflatten(2, (3, self.heads, HEAD)).permute(2, 0, 3, 1, 4)
        attended: Tensor = self.proj(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))
        return attended


class _MLP(nn.Module):
    """Two linear layers with GELU between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return y


class _SwiGLU(nn.Module):
    """Two linear layers with a gate between (Shazeer 2020, arXiv:2002.05202), as in the largest network."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w12 = nn.Linear(width, 2 * hidden)
        self.w3 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.w12(x).chunk(2, dim=-1)
        y: Tensor = self.w3(F.silu(gate) * value)
        return y


class _LayerScale(nn.Module):
    """A factor for each channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class _Block(nn.Module):
    """Attention and a network for each token, both residual with layer norm before and a factor after."""

    def __init__(self, width: int, mlp: nn.Module) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = _Attention(width)
        self.ls1 = _LayerScale(width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = mlp
        self.ls2 = _LayerScale(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        y: Tensor = x + self.ls2(self.mlp(self.norm2(x)))
        return y


class _Transformer(nn.Module):
    """The network with the sizes of a state dict in the names of the original."""

    def __init__(self, state: State) -> None:
        super().__init__()
        width, channels, patch, _ = state["patch_embed.proj.weight"].shape
        self.patch = patch
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(state["pos_embed"].shape))
        registers = state["register_tokens"].shape[1] if "register_tokens" in state else 0
        self.register_tokens = nn.Parameter(torch.empty(1, registers, width)) if registers else None
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(channels, width, patch, patch)})
        depth = len({name.split(".")[1] for name in state if name.startswith("blocks.")})
        is_gated = "blocks.0.mlp.w3.weight" in state
        hidden = state["blocks.0.mlp.w3.weight" if is_gated else "blocks.0.mlp.fc2.weight"].shape[1]
        made = _SwiGLU if is_gated else _MLP
        self.blocks = nn.ModuleList(_Block(width, made(width, hidden)) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x: Tensor, layers: list[int]) -> list[Tensor]:
        """Normalized tokens, (batch, token, channel), after each of the `layers`: class, registers, patches."""
        y = self.patch_embed["proj"](x)
        tokens = y.flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(x), -1, -1), tokens], 1) + self._positions(y.shape[2], y.shape[3])
        if self.register_tokens is not None:
            tokens = torch.cat([tokens[:, :1], self.register_tokens.expand(len(x), -1, -1), tokens[:, 1:]], 1)
        found = []
        for number, block in enumerate(self.blocks):
            tokens = block(tokens)
            if number in layers:
                found.append(self.norm(tokens))
        return found

    def _positions(self, height: int, width: int) -> Tensor:
        """Position embeddings, interpolated to a grid; with antialiasing in networks with registers."""
        side = math.isqrt(self.pos_embed.shape[1] - 1)
        if (height, width) == (side, side):
            return self.pos_embed
        own, grid = self.pos_embed[:, :1], self.pos_embed[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
        grid = F.interpolate(grid, (height, width), mode="bicubic", antialias=self.register_tokens is not None)
        return torch.cat([own, grid.flatten(2).transpose(1, 2)], 1)


class DINOv2(FeatureNetwork):
    """DINOv2, a vision transformer trained without labels (Oquab et al. 2023, arXiv:2304.07193); weights from a file.

    Any of its sizes, with or without registers. Fréchet distances in these features agree better with human judgment
    than those in Inception's (Stein et al. 2023, arXiv:2306.04675). The vector of an image is the class token of the
    last layer; distances compare the patch tokens of four layers. Gray images get three equal channels. The beginning
    of the file's SHA-256 is part of the name, since distances with different weights are not comparable.

    Args:
        weights: `.pth` of the original, such as `dinov2_vits14_pretrain.pth`, or `.safetensors` of transformers.
        sha256: expected SHA-256 of the file, 64 hexadecimal digits; another file is refused.
        size: image size after bicubic resizing, in pixels; a multiple of the patch size, 14.
    """

    example: ClassVar = {"weights": "dinov2_vits14_pretrain.pth"}

    def __init__(self, *, weights: Path, sha256: str | None = None, size: Positive = 224) -> None:
        super().__init__()
        self.sha256 = sha256_of(weights)
        if sha256 is not None and self.sha256 != sha256.lower():
            raise ArtifactError(f"{weights}: its SHA-256 is {self.sha256}, not {sha256}. Download the file again")
        state = _with_original_names(read_state(weights))
        what = f"{weights}: not the weights of DINOv2"
        _check_sizes(state, what)
        with torch.device("meta"):
            network = _Transformer(state)
        fill(network, state, what)
        if size % network.patch:
            raise ConfigError(f"size: expected a multiple of the patch size {network.patch}, got {size}")
        self.network, self.size = network, size
        self.layers = sorted({round((part + 1) * len(network.blocks) / MAPS) - 1 for part in range(MAPS)} - {-1})
        self.name = f"dinov2-{self.sha256[:8]}"
        self.preprocessing = f"antialiased bicubic to {size}×{size}, mean and deviation of ImageNet"

    def maps(self, images: Images) -> list[Tensor]:
        """Patch tokens of four layers, (batch, channel, size / patch size, size / patch size)."""
        grid = self.size // self.network.patch
        found = self._tokens(images, self.layers)
        return [tokens[:, -(grid**2) :].transpose(1, 2).unflatten(2, (grid, grid)) for tokens in found]

    def forward(self, images: Images) -> Tensor:
        """The class token of the last layer, (batch, channel)."""
        return self._tokens(images, self.layers[-1:])[0][:, 0]

    def _tokens(self, images: Images, layers: list[int]) -> list[Tensor]:
        """Tokens of images in some layers."""
        x = as_colors(images, "DINOv2").to(self.network.pos_embed.dtype)
        side = (self.size, self.size)
        if x.shape[2:] != side:
            x = F.interpolate(x, side, mode="bicubic", antialias=True).clamp(0, 1)
        shift, scale = (x.new_tensor(values)[:, None, None] for values in (SHIFT, SCALE))
        found: list[Tensor] = self.network((x - shift) / scale, layers)
        return found


def _with_original_names(state: State) -> State:
    """Tensors by the names of the original, without those that features do not need."""
    found = {name.removeprefix("dinov2."): tensor for name, tensor in state.items()}
    for old, new in FROM_TRANSFORMERS.items():
        if old[0] == ".":
            found = {name.replace(old, new): tensor for name, tensor in found.items()}
        else:
            found = {new + name[len(old) :] if name.startswith(old) else name: each for name, each in found.items()}
    for name in [name for name in found if ".attention.attention.query." in name]:
        parts = [name.replace(".query.", f".{part}.") for part in _QKV]
        if all(part in found for part in parts):
            joined = torch.cat([found.pop(part) for part in parts])
            found[name.replace(".attention.attention.query.", ".attn.qkv.")] = joined
    found.pop("mask_token", None)
    return found


def _check_sizes(state: State, what: str) -> None:
    """Checks the tensors from which the sizes of the network follow.

    Raises:
        ArtifactError: one is missing or of an unexpected shape.
    """
    patches, positions = state.get("patch_embed.proj.weight"), state.get("pos_embed")
    if patches is None or positions is None or patches.ndim != 4 or positions.ndim != 3:
        raise ArtifactError(f"{what}: tensor 'patch_embed.proj.weight' or 'pos_embed' is missing")
    side = math.isqrt(max(positions.shape[1] - 1, 0))
    if patches.shape[0] % HEAD or patches.shape[2] != patches.shape[3] or side**2 + 1 != positions.shape[1]:
        raise ArtifactError(
            f"{what}: expected square patches and positions, and a multiple of {HEAD} channels, got "
            f"{tuple(patches.shape)} and {tuple(positions.shape)}"
        )
    if not any(name in state for name in ("blocks.0.mlp.fc2.weight", "blocks.0.mlp.w3.weight")):
        raise ArtifactError(f"{what}: tensor 'blocks.0.mlp.fc2.weight' is missing")
