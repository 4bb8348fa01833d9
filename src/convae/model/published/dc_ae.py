"""The two sides of the deep compression autoencoder, with the names of its modules in diffusers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from convae.model.published.layers import TO_SIGNED, PublishedLayer, WeightSource, named


@dataclass(frozen=True, kw_only=True)
class DCAESide:
    """Encoder or decoder of DC-AE (Chen et al. 2024, arXiv:2410.10733).

    Attributes:
        channels: of each stage, that of the image first; sizes are halved between stages.
        blocks: blocks of each stage; a first stage without blocks is skipped by one step of down- or upsampling.
        attention: whether the blocks of a stage have linear attention instead of two convolutions.
        scales: kernel sizes of the further heads of the attention, for each stage.
        norms: name of the norm of each stage.
        activations: activation of the convolutional blocks of each stage.
        head_channels: channels of a head.
        resampling: whether channels are rearranged (`pixel-shuffle`, `pixel-unshuffle`), or sizes are changed by the
            convolution or before it.
        shortcut: whether a shortcut without parameters is around the convolution at the latent.
        axes: number of spatial axes.
    """

    channels: tuple[int, ...]
    blocks: tuple[int, ...]
    attention: tuple[bool, ...]
    scales: tuple[tuple[int, ...], ...]
    norms: tuple[str, ...]
    activations: tuple[str, ...]
    head_channels: int = 32
    resampling: bool = True
    shortcut: bool = True
    axes: int = 2

    @property
    def merged(self) -> int:
        """Positions that one step of downsampling merges."""
        return int(2**self.axes)

    @property
    def first_channels(self) -> int:
        """Channels after the first convolution of the encoder, before the last of the decoder."""
        return self.channels[0] if self.blocks[0] else self.channels[1]

    def stage(self, number: int, path: str, start: int = 0) -> list[PublishedLayer]:
        """The blocks of a stage; `start` is the number of the first in the published list."""
        layers: list[PublishedLayer] = []
        for index in range(start, start + self.blocks[number]):
            own = f"{path}.{index}"
            layers += self._attention(number, own) if self.attention[number] else [self._convolutions(number, own)]
        return layers

    def _convolutions(self, number: int, path: str) -> PublishedLayer:
        conv = {"channels": self.channels[number]}
        layers = [{"conv": conv}, self.activations[number], {"conv": {**conv, "bias": False}}, self.norms[number]]
        inner = {"branch.0": "conv1", "branch.2": "conv2", "branch.3": "norm"}
        sources = {ours: WeightSource((f"{path}.{theirs}",)) for ours, theirs in inner.items()}
        return PublishedLayer({"residual": {"layers": layers}}, sources)

    def _attention(self, number: int, path: str) -> list[PublishedLayer]:
        width, scales = self.channels[number], self.scales[number]
        attention = {"head_channels": self.head_channels, "scales": list(scales), "norm": self.norms[number]}
        sources = {
            "qkv.0": WeightSource(tuple(f"{path}.attn.to_{part}" for part in "qkv"), is_linear=True),
            "out_proj.0": WeightSource((f"{path}.attn.to_out",), is_linear=True),
            "out_proj.1": WeightSource((f"{path}.attn.norm_out",)),
        }
        for index in range(len(scales)):
            for place, part in enumerate(("proj_in", "proj_out")):
                sources[f"scales.{index}.{place}"] = WeightSource((f"{path}.attn.to_qkv_multiscale.{index}.{part}",))
        layers: list[Any] = [
            {"conv": {"channels": 8 * width, "kernel": 1}},
            "silu",
            {"conv": {"channels": 8 * width, "groups": "depthwise"}},
            "glu",
            {"conv": {"channels": width, "kernel": 1, "bias": False}},
            "rms-norm",
        ]
        inner = {"branch.0": "conv_inverted", "branch.2": "conv_depth", "branch.4": "conv_point", "branch.5": "norm"}
        gated = {ours: WeightSource((f"{path}.conv_out.{theirs}",)) for ours, theirs in inner.items()}
        return [
            PublishedLayer({"linear-attention": attention}, sources),
            PublishedLayer({"residual": {"layers": layers}}, gated),
        ]

    def down(self, channels: int, path: str, *, has_shortcut: bool = True) -> list[PublishedLayer]:
        """Half of the sizes."""
        if self.resampling:
            layers = [{"conv": {"channels": channels // self.merged}}, {"pixel-unshuffle": {"scale": 2}}]
        else:
            layers = [{"conv": {"channels": channels, "stride": 2, "padding": 1}}]
        return _around(layers, 0, [{"pixel-unshuffle": {"scale": 2}}, _averaged(channels)], path, has_shortcut)

    def up(self, channels: int, path: str, *, has_shortcut: bool = True) -> list[PublishedLayer]:
        """Twice the sizes."""
        if self.resampling:
            layers, place = [{"conv": {"channels": channels * self.merged}}, {"pixel-shuffle": {"scale": 2}}], 0
        else:
            layers, place = [{"upsample": {"scale": 2}}, {"conv": {"channels": channels}}], 1
        repeated = {"channel-repeat": {"channels": channels * self.merged}}
        skip = [repeated, {"pixel-shuffle": {"scale": 2}}]
        return _around(layers, place, skip, path, has_shortcut)


def encoder_layers(side: DCAESide, latent: int) -> list[PublishedLayer]:
    """Images in [0, 1] to latents."""
    last = len(side.channels) - 1
    layers = [TO_SIGNED]
    if side.blocks[0]:
        layers.append(named({"conv": {"channels": side.first_channels}}, "encoder.conv_in"))
    else:
        layers += side.down(side.first_channels, "encoder.conv_in.conv", has_shortcut=False)
    for number, blocks in enumerate(side.blocks):
        path = f"encoder.down_blocks.{number}"
        layers += side.stage(number, path)
        if number < last and blocks:
            layers += side.down(side.channels[number + 1], f"{path}.{blocks}.conv")
    end = [{"conv": {"channels": latent}}]
    return [*layers, *_around(end, 0, [_averaged(latent)], "encoder.conv_out", side.shortcut)]


def decoder_layers(side: DCAESide, raw: int, activation: str) -> list[PublishedLayer]:
    """Latents to raw values of the likelihood, in [-1, 1]."""
    last = len(side.channels) - 1
    width = side.channels[-1]
    repeated = {"channel-repeat": {"channels": width}}
    layers = _around([{"conv": {"channels": width}}], 0, [repeated], "decoder.conv_in", side.shortcut)
    for number in reversed(range(len(side.channels))):
        path, has_up = f"decoder.up_blocks.{number}", number < last and side.blocks[number] > 0
        if has_up:
            layers += side.up(side.channels[number], f"{path}.0.conv")
        layers += side.stage(number, path, int(has_up))
    layers += [named("rms-norm", "decoder.norm_out"), PublishedLayer(activation)]
    if side.blocks[0]:
        return [*layers, named({"conv": {"channels": raw}}, "decoder.conv_out")]
    return [*layers, *side.up(raw, "decoder.conv_out.conv", has_shortcut=False)]


def _averaged(channels: int) -> dict[str, Any]:
    return {"channel-average": {"channels": channels}}


def _around(layers: list[Any], place: int, skip: list[Any], path: str, has_shortcut: bool) -> list[PublishedLayer]:
    """Layers with one convolution at a place among them, with a shortcut without parameters around them or without."""
    if has_shortcut:
        residual = {"residual": {"layers": layers, "skip": skip}}
        return [PublishedLayer(residual, {f"branch.{place}": WeightSource((path,))})]
    return [named(layer, path) if index == place else PublishedLayer(layer) for index, layer in enumerate(layers)]
