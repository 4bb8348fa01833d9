"""Configuration of a deep compression autoencoder, from its layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from convae.core.description import LayerSpec, read_plain_list
from convae.core.errors import ConfigError


@dataclass
class _Stage:
    """The blocks of a stage."""

    count: int = 0
    channels: int = 0
    has_attention: bool = False
    scales: tuple[int, ...] = ()
    norm: str = "rms-norm"
    activation: str = "silu"


@dataclass
class _Found:
    """The architecture of encoder or decoder."""

    stages: list[_Stage] = field(default_factory=lambda: [_Stage()])
    head_channels: int = 32
    resampling: set[str] = field(default_factory=set)


def encoder_config(layers: Sequence[LayerSpec]) -> dict[str, Any]:
    """The keys of a configuration that describe the encoder.

    Raises:
        ConfigError: there are too few layers.
    """
    require_layers(layers)
    is_skipped = layers[2].name == "pixel-unshuffle" or layers[1].arguments.get("stride") == 2
    start = 3 if layers[2].name == "pixel-unshuffle" else 2
    found = _read(layers[start:-1])
    if is_skipped:
        found.stages.insert(0, _Stage(channels=found.stages[0].channels))
    unshuffles = "pixel-unshuffle" in found.resampling or (is_skipped and start == 3)
    return {
        **_shared(found, "encoder"),
        "encoder_out_shortcut": layers[-1].name == "residual",
        "downsample_block_type": "pixel_unshuffle" if unshuffles else "conv",
    }


def decoder_config(layers: Sequence[LayerSpec]) -> dict[str, Any]:
    """The keys of a configuration that describe the decoder.

    Raises:
        ConfigError: there are too few layers, or the last norm is missing.
    """
    require_layers(layers)
    norms = [index for index, layer in enumerate(layers) if layer.name == "rms-norm"]
    if not norms or norms[-1] + 2 >= len(layers):
        raise ConfigError("decoder: expected rms-norm, an activation and a convolution at the end")
    activation, *end = (layer.name for layer in layers[norms[-1] + 1 :])
    found = _read(layers[1 : norms[-1]])
    stages = found.stages[::-1]
    if len(end) > 2:
        stages.insert(0, _Stage(channels=stages[0].channels))
    found.stages = stages
    shuffles = "pixel-shuffle" in {*found.resampling, *end}
    return {
        **_shared(found, "decoder"),
        "decoder_norm_types": [stage.norm.replace("-", "_") for stage in stages],
        "decoder_act_fns": [stage.activation for stage in stages],
        "decoder_in_shortcut": layers[0].name == "residual",
        "decoder_conv_act_fn": activation,
        "upsample_block_type": "pixel_shuffle" if shuffles else "interpolate",
    }


def require_layers(layers: Sequence[LayerSpec]) -> None:
    """Checks that there are enough layers for an encoder or decoder.

    Raises:
        ConfigError: there are fewer than 4 layers.
    """
    if len(layers) < 4:
        raise ConfigError(f"expected at least 4 layers, got {len(layers)}")


def _shared(found: _Found, side: str) -> dict[str, Any]:
    """The keys that encoder and decoder have in common."""
    return {
        "attention_head_dim": found.head_channels,
        f"{side}_block_types": ["EfficientViTBlock" if each.has_attention else "ResBlock" for each in found.stages],
        f"{side}_block_out_channels": [each.channels for each in found.stages],
        f"{side}_layers_per_block": [each.count for each in found.stages],
        f"{side}_qkv_multiscales": [list(each.scales) for each in found.stages],
    }


def _read(layers: Sequence[LayerSpec]) -> _Found:
    """The stages of the layers between the first and the last convolution, in order."""
    found = _Found()
    for layer in layers:
        stage, given = found.stages[-1], layer.arguments
        if layer.name == "linear-attention":
            stage.has_attention, stage.count = True, stage.count + 1
            stage.scales = tuple(given.get("scales", ()))
            stage.norm = str(given.get("norm", "rms-norm"))
            found.head_channels = given.get("head_channels", 32)
        elif layer.name == "residual" and given.get("skip") is None:
            inner = read_plain_list(given["layers"], "layers")
            widths = [each.arguments["channels"] for each in inner if each.name == "conv"]
            if not widths:
                raise ConfigError("expected convolutions in residual blocks")
            stage.channels = widths[-1]
            if not stage.has_attention:
                stage.count += 1
                stage.activation, stage.norm = inner[1].name, inner[-1].name
        elif layer.name == "residual":
            found.resampling |= {each.name for each in read_plain_list(given["layers"], "layers")}
            found.stages.append(_Stage())
        else:
            raise ConfigError(f"unexpected layer {layer.name} between blocks")
    return found
