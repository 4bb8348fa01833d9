"""The networks of students: small decoders and encoders like those of TAESD, made for their teacher."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch

from convae.core.arguments import Positive
from convae.core.sizes import halvings
from convae.core.types import Shape
from convae.model.layers.base.network import Network
from convae.model.mirror import enlarging_layer
from convae.model.summary import network_flops
from convae.model.vae import VAE

WIDTHS = (64, 48, 32, 24, 16)
"""Channels to choose from; those of TAESD first."""
COARSE_WIDTHS = (48, 32, 24, 20, 16, 12, 8, 6, 4)
"""Channels to choose from if even the last of `WIDTHS` has too many FLOPs, and nothing is computed at full size."""
SAVING = 10
"""A student of default width has at least this many times fewer FLOPs than its teacher, where a width allows it."""
LARGEST_GRID = 8
"""Largest size of the first feature map between a latent vector and the image."""
Layers = list[Any]


def student_decoder(teacher: VAE, *, width: Positive | None = None, blocks: Positive = 1) -> Layers:
    """A decoder like that of TAESD (github.com/madebyollin/taesd, 2023): one width, residual blocks, no norms.

    From the grid of a latent map, or a small one of a latent vector, to the size of the images by repetition. For a
    teacher that is small itself, the last step is a pixel shuffle (arXiv:1609.05158), so that all convolutions are at
    half of the size.

    Args:
        teacher: the trained model.
        width: channels; by default the largest of `WIDTHS` with a tenth of the teacher's FLOPs.
        blocks: residual blocks of each stage but the last, which has one.
    """
    latent, extra = teacher.latent_shape, 0 if teacher.condition is None else teacher.condition.channels
    shape = (latent[0] + extra, *latent[1:])
    raw = teacher.head.raw_channels(teacher.input_shape[0])

    def layers(channels: int, is_coarse: bool = False) -> Layers:
        return _decoder_layers(shape, teacher.input_shape, raw, channels, blocks, is_coarse)

    return layers(width) if width else _smaller(layers, shape, network_flops(teacher.networks["decoder"]))


def student_encoder(teacher: VAE, *, width: Positive | None = None, blocks: Positive = 1) -> Layers:
    """An encoder like that of TAESD, to features of the teacher's shape, for which its bottleneck was trained.

    Args:
        teacher: the trained model.
        width: channels; by default the largest of `WIDTHS` with a tenth of the teacher's FLOPs.
        blocks: residual blocks of each stage but the first, which has one.
    """
    channels, *sizes = teacher.input_shape
    shape = (channels + (0 if teacher.condition is None else teacher.condition.channels), *sizes)
    encoder = teacher.networks["encoder"]

    def layers(own: int, is_coarse: bool = False) -> Layers:
        return _encoder_layers(shape, encoder.shape_out, own, blocks, is_coarse)

    return layers(width) if width else _smaller(layers, shape, network_flops(encoder))


def _smaller(layers: Callable[[int, bool], Layers], shape: Shape, flops: int) -> Layers:
    """The layers of the largest width with the FLOPs of a student; those of the smallest if none has them."""
    choices = [*((width, False) for width in WIDTHS), *((width, True) for width in COARSE_WIDTHS)]
    for width, is_coarse in choices:
        found = layers(width, is_coarse)
        with torch.device("meta"):
            own = network_flops(Network(shape, found, "student"))
        if own * SAVING <= flops:
            break
    return found


def _block(width: int) -> Layers:
    conv = {"conv": {"channels": width}}
    return [{"residual": {"layers": [conv, "relu", conv, "relu", conv]}}, "relu"]


def _decoder_layers(latent: Shape, image: Shape, raw: int, width: int, blocks: int, is_coarse: bool) -> Layers:
    """Layers from latents to the raw values of the likelihood."""
    trace = _sizes_between(latent, image)
    last: Layers = [{"conv": {"channels": raw}}]
    if is_coarse and _doubles(trace):
        last = [{"conv": {"channels": raw * 2 ** len(trace.pop())}}, {"pixel-shuffle": {"scale": 2}}]
    if len(latent) == 1:
        grid = (width, *trace[0])
        layers: Layers = [{"linear": {"features": math.prod(grid)}}, "relu", {"unflatten": {"to": list(grid)}}]
    else:
        layers = [{"conv": {"channels": width}}, "relu"]
    for small, large in pairwise(trace):
        layers += _block(width) * blocks
        layers += [enlarging_layer(small, large, 2), {"conv": {"channels": width, "bias": False}}]
    return [*layers, *_block(width), *last]


def _encoder_layers(image: Shape, features: Shape, width: int, blocks: int, is_coarse: bool) -> Layers:
    """Layers from images to features."""
    trace = _sizes_between(features, image)
    layers: Layers = []
    if is_coarse and _doubles(trace):
        layers.append({"pixel-unshuffle": {"scale": 2}})
        trace.pop()
    layers += [{"conv": {"channels": width}}, *_block(width)]
    for large, small in pairwise(trace[::-1]):
        shrinking = {"conv": {"channels": width, "stride": 2, "bias": False}}
        halved = tuple(-(-size // 2) for size in large)
        layers += [shrinking] if halved == small else [{"resize": {"to": list(small)}}, {"conv": {"channels": width}}]
        layers += _block(width) * blocks
    if len(features) == 1:
        return [*layers, "flatten", {"linear": {"features": features[0]}}]
    return [*layers, {"conv": {"channels": features[0]}}]


def _doubles(trace: list[Shape]) -> bool:
    """Whether the image has exactly twice the sizes of the feature map before it."""
    return len(trace) > 1 and all(large == 2 * small for small, large in zip(*trace[-2:], strict=True))


def _sizes_between(inner: Shape, image: Shape) -> list[Shape]:
    """The spatial sizes from the latent to the image, each at most twice the one before."""
    sizes = image[1:]
    if len(inner) == 1:
        times = 0
        while max(halvings(sizes, times)[-1]) > LARGEST_GRID:
            times += 1
        return halvings(sizes, times)[::-1]
    goal, trace = inner[1:], [tuple(sizes)]
    while any(size > 2 * least for size, least in zip(trace[-1], goal, strict=True)):
        trace.append(tuple(max(-(-size // 2), least) for size, least in zip(trace[-1], goal, strict=True)))
    return [goal, *trace[::-1]] if trace[-1] != goal else trace[::-1]
