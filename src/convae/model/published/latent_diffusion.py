"""The two sides of the autoencoder of latent diffusion, with the names of its modules in diffusers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from convae.core.sizes import halvings
from convae.core.types import Shape
from convae.model.mirror import enlarging_layer
from convae.model.published.layers import TO_SIGNED, PublishedLayer, WeightSource, named


@dataclass(frozen=True, kw_only=True)
class LatentDiffusionSide:
    """Encoder or decoder of the autoencoder of latent diffusion (Rombach et al. 2021, arXiv:2112.10752).

    Attributes:
        channels: of each stage, that of the image first; sizes are halved between stages.
        blocks: residual blocks per stage of the encoder; the decoder has one more.
        groups: of the group norms.
        attention: whether there is attention between the two residual blocks in the middle.
        feature: name of the feature that the norms follow, as in the decoder of MoVQ; None for group norms.
        attention_stages: whether attention follows each residual block of a stage, for each stage; none by default.
    """

    channels: tuple[int, ...]
    blocks: int
    groups: int
    attention: bool = True
    attention_stages: tuple[bool, ...] = ()
    feature: str | None = None

    @property
    def norm(self) -> dict[str, Any]:
        """The norm before convolutions and attention."""
        if self.feature is not None:
            return {"spatial-norm": {"feature": self.feature}}  # always with 32 groups in diffusers
        return {"group-norm": {"groups": self.groups, "eps": 1e-6}}

    def stage(self, number: int, count: int, path: str) -> list[PublishedLayer]:
        """The residual blocks of a stage, with attention after each where the stage has it."""
        has_attention = self.attention_stages[number : number + 1] == (True,)
        layers = []
        for index in range(count):
            layers.append(self._block(self.channels[number], f"{path}.resnets.{index}"))
            layers += [self._attend(f"{path}.attentions.{index}")] if has_attention else []
        return layers

    def middle(self, path: str) -> list[PublishedLayer]:
        """Two residual blocks, with attention between them where the network has it."""
        attention = [self._attend(f"{path}.attentions.0")] if self.attention else []
        first, second = (self._block(self.channels[-1], f"{path}.resnets.{index}") for index in range(2))
        return [first, *attention, second]

    def end(self, path: str, features: int) -> list[PublishedLayer]:
        """Norm, activation and convolution to the features."""
        return [
            named(self.norm, f"{path}.conv_norm_out"),
            PublishedLayer("silu"),
            named({"conv": {"channels": features}}, f"{path}.conv_out"),
        ]

    def _block(self, channels: int, path: str) -> PublishedLayer:
        inner = {"branch.0": "norm1", "branch.2": "conv1", "branch.3": "norm2", "branch.5": "conv2"}
        inner["skip"] = "conv_shortcut"
        sources = {f"block.{ours}": WeightSource((f"{path}.{theirs}",)) for ours, theirs in inner.items()}
        return PublishedLayer({"residual-block": {"channels": channels, "norm": self.norm}}, sources)

    def _attend(self, path: str) -> PublishedLayer:
        sources = {
            "qkv.0": WeightSource((f"{path}.{'group_norm' if self.feature is None else 'spatial_norm'}",)),
            "qkv.1": WeightSource(tuple(f"{path}.to_{part}" for part in "qkv"), is_linear=True),
            "out_proj.0": WeightSource((f"{path}.to_out.0",), is_linear=True),
        }
        return PublishedLayer({"attention": {"norm": self.norm}}, sources)


def encoder_layers(side: LatentDiffusionSide, features: int, quant_conv: int | None) -> list[PublishedLayer]:
    """Images in [0, 1] to features.

    Args:
        side: the encoder.
        features: channels of the last 3×3 convolution.
        quant_conv: channels of the 1×1 convolution after it; None without one.
    """
    layers = [TO_SIGNED, named({"conv": {"channels": side.channels[0]}}, "encoder.conv_in")]
    for number, channels in enumerate(side.channels):
        path = f"encoder.down_blocks.{number}"
        layers += side.stage(number, side.blocks, path)
        if number < len(side.channels) - 1:
            down = {"conv": {"channels": channels, "stride": 2, "padding": "keras"}}
            layers.append(named(down, f"{path}.downsamplers.0.conv"))
    layers += [*side.middle("encoder.mid_block"), *side.end("encoder", features)]
    if quant_conv is not None:
        layers.append(named({"conv": {"channels": quant_conv, "kernel": 1}}, "quant_conv"))
    return layers


def decoder_layers(
    side: LatentDiffusionSide, post_quant_conv: int | None, raw: int, sizes: Shape
) -> list[PublishedLayer]:
    """Latents to raw values of the likelihood, in [-1, 1].

    Args:
        side: the decoder.
        post_quant_conv: channels of the 1×1 convolution before it; None without one.
        raw: output channels.
        sizes: of the images.
    """
    trace = halvings(sizes, len(side.channels) - 1)
    layers = [] if side.feature is None else [PublishedLayer({"feature": {"name": side.feature}})]
    if post_quant_conv is not None:
        layers.append(named({"conv": {"channels": post_quant_conv, "kernel": 1}}, "post_quant_conv"))
    layers.append(named({"conv": {"channels": side.channels[-1]}}, "decoder.conv_in"))
    layers += side.middle("decoder.mid_block")
    for index, number in enumerate(reversed(range(len(side.channels)))):
        path = f"decoder.up_blocks.{index}"
        layers += side.stage(number, side.blocks + 1, path)
        if number:
            up = {"conv": {"channels": side.channels[number]}}
            layers.append(PublishedLayer(enlarging_layer(trace[number], trace[number - 1], 2)))
            layers.append(named(up, f"{path}.upsamplers.0.conv"))
    return [*layers, *side.end("decoder", raw)]
