"""The two sides of TAESD, with the names of its modules in diffusers."""

from __future__ import annotations

from typing import Any

from convae.core.sizes import halvings
from convae.core.types import Shape
from convae.model.mirror import enlarging_layer
from convae.model.published.layers import PublishedLayer, WeightSource, named


def encoder_layers(channels: tuple[int, ...], blocks: tuple[int, ...], latent: int, act: str) -> list[PublishedLayer]:
    """Images in [0, 1] to latents.

    Args:
        channels: of each stage, that of the image first.
        blocks: residual blocks of each stage.
        latent: channels of the latent map.
        act: activation inside of the blocks.
    """
    layers: list[PublishedLayer] = []
    place = 0  # in the published list, in which a block with its activation is one item
    for number, (width, count) in enumerate(zip(channels, blocks, strict=True)):
        conv: dict[str, Any] = {"channels": width}
        conv |= {"stride": 2, "padding": 1, "bias": False} if number else {}
        layers.append(named({"conv": conv}, f"encoder.layers.{place}"))
        for index in range(place + 1, place + 1 + count):
            layers += _block(width, f"encoder.layers.{index}", act)
        place += 1 + count
    return [*layers, named({"conv": {"channels": latent}}, f"encoder.layers.{place}")]


def decoder_layers(
    channels: tuple[int, ...], blocks: tuple[int, ...], raw: int, sizes: Shape, act: str, mode: str = "nearest"
) -> list[PublishedLayer]:
    """Latents to images in [0, 1].

    Args:
        channels: of each stage, that of the latent first.
        blocks: residual blocks of each stage.
        raw: output channels.
        sizes: of the images.
        act: activation inside of the blocks.
        mode: of the upsampling, `nearest` or `linear`.
    """
    trace = halvings(sizes, len(channels) - 1)[::-1]
    layers = [
        PublishedLayer({"soft-clip": {"limit": 3.0}}),
        named({"conv": {"channels": channels[0]}}, "decoder.layers.0"),
        PublishedLayer(act),
    ]
    place = 2
    for number, (width, count) in enumerate(zip(channels, blocks, strict=True)):
        is_last = number == len(channels) - 1
        for index in range(place, place + count):
            layers += _block(width, f"decoder.layers.{index}", act)
        place += count
        if not is_last:
            ((name, given),) = enlarging_layer(trace[number], trace[number + 1], 2).items()
            layers.append(PublishedLayer({name: given if mode == "nearest" else {**given, "mode": mode}}))
            place += 1
        conv = {"channels": raw} if is_last else {"channels": width, "bias": False}
        layers.append(named({"conv": conv}, f"decoder.layers.{place}"))
        place += 1
    return layers


def _block(channels: int, path: str, act: str) -> list[PublishedLayer]:
    """Three convolutions with a residual connection, and ReLU after the sum."""
    conv = {"conv": {"channels": channels}}
    sources = {f"branch.{index}": WeightSource((f"{path}.conv.{index}",)) for index in (0, 2, 4)}
    return [PublishedLayer({"residual": {"layers": [conv, act, conv, act, conv]}}, sources), PublishedLayer("relu")]
