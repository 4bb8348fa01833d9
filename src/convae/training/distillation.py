"""Distillation: training a smaller decoder or encoder from a frozen model, as a VAE of which these parts are new."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from convae.core.arguments import Positive, keyword_parameters, parse_arguments, split_name
from convae.core.errors import ConfigError
from convae.core.paths import local_path, safe_name
from convae.core.progress import Progress
from convae.core.sizes import halvings
from convae.core.trust import trusted_packages
from convae.core.types import Shape
from convae.describe import resolve
from convae.model.layers.base.network import Network
from convae.model.mirror import enlarging_layer
from convae.model.presets import PRESETS
from convae.model.pretrained import model_path
from convae.model.summary import network_flops
from convae.model.vae import VAE
from convae.training.loop.trainer import Callback
from convae.training.recipe.start import choose_data, open_trained_model
from convae.training.result import Run
from convae.training.run import train

SMALL = "small"
"""Name of a new part that is made for its teacher."""
WIDTHS = (64, 48, 32, 24, 16)
"""Channels to choose from; those of TAESD first."""
COARSE_WIDTHS = (48, 32, 24, 20, 16, 12, 8, 6, 4)
"""Channels to choose from if even the last of `WIDTHS` has too many FLOPs, and nothing is computed at full size."""
SAVING = 10
"""A student of default width has at least this many times fewer FLOPs than its teacher, where a width allows it."""
LARGEST_GRID = 8
"""Largest size of the first feature map between a latent vector and the image."""
Layers = list[Any]
NewPart = str | dict[str, Any] | Layers
"""`small` or the name of a preset, a mapping of the name to its arguments, or a list of layers."""


def distill(
    model: VAE | str | os.PathLike[str],
    *,
    decoder: NewPart | None = None,
    encoder: NewPart | None = None,
    data: Any = None,
    labels: Any = None,
    validation: Any = None,
    channels_last: bool = False,
    overrides: Sequence[str] = (),
    out: str | Path | None = None,
    callback: Callback | None = None,
    progress: Progress | None = None,
    quiet: bool = False,
    trust: Iterable[str] = (),
) -> Run:
    """Trains a small decoder, or encoder, that computes what those of a trained model compute.

    The other parts of the model are taken over and frozen, so that latents, codes and their scale stay the same. The
    objective is `distillation` for a decoder and `latent-distillation` for an encoder; overrides such as
    `objective.reconstruction=1` or `objective.perceptual.network=lpips` add terms of the images. The run is one of
    `train`: `resume` continues it.

    Args:
        model: the teacher: a run, an artifact, or a model with a description.
        decoder: the new decoder: `small` or the name of a preset, a mapping of the name to its arguments, or a list of
            layers; by default `small`, unless there is an encoder. `small` is like TAESD, with the arguments `width`,
            its channels (by default so many that it has a tenth of the teacher's FLOPs), and `blocks`, the residual
            blocks of each stage (by default 1).
        encoder: the new encoder, in the same forms; by default that of the teacher.
        data: images as objects, as for `train`; by default the training data of the model.
        labels: as for `train`.
        validation: as for `train`.
        channels_last: as for `train`.
        overrides: `key.path=value` each, such as `training.epochs=20`.
        out: the run folder, new or empty; by default a new folder in `runs/`.
        callback: as for `train`.
        progress: as for `train`.
        quiet: no progress bar.
        trust: packages outside convae whose code the model may use.

    Raises:
        ConfigError: the model is a hierarchy or was made of modules, or the new part does not fit its latents.
        ConvaeError: invalid options, data or folder.
    """
    with trusted_packages(trust):
        teacher, run = _open(model)
        new = _new_parts(teacher, decoder, encoder)
        kept = [name for name, _ in teacher.named_children() if name not in new]
        recipe: dict[str, Any] = {
            "name": safe_name(f"{_name(model, teacher)}-distilled"),
            "start": {
                "model": model if isinstance(model, VAE) else str(model_path(model, Path())),
                "parts": kept,
            },
            "model": {**teacher.spec.model_dump(mode="json"), **new},
            "data": {**choose_data(teacher, run, overrides, has_objects=data is not None), "augment": {}},
            "objective": _objective(teacher, new),
            "training": {"freeze": [name for name in kept if name != "head"], "cache_latents": "encoder" not in new},
        }
        return train(
            recipe,
            data=data,
            labels=labels,
            validation=validation,
            channels_last=channels_last,
            overrides=overrides,
            out=out,
            callback=callback,
            progress=progress,
            quiet=quiet,
        )


def _open(model: VAE | str | os.PathLike[str]) -> tuple[VAE, Path | None]:
    """The teacher, and the folder of its run if it has one.

    Raises:
        ConfigError: it has several latents, or no description.
    """
    teacher, run = open_trained_model(model)
    if teacher.is_hierarchical:
        raise ConfigError(
            f"model '{teacher.name}' has several latents: its decoder draws some of them, so it cannot be distilled. "
            "Use a model with one latent"
        )
    if not teacher.is_described:
        raise ConfigError(f"model '{teacher.name}' was made of modules. Use a model with a description")
    return teacher, run


def _name(model: VAE | str | os.PathLike[str], teacher: VAE) -> str:
    """A name for the run: that of the teacher's run or artifact."""
    if isinstance(model, VAE):
        return teacher.name
    path = local_path(model).absolute()
    return path.parent.name if path.name in ("model", "last") else path.name


def _new_parts(teacher: VAE, decoder: NewPart | None, encoder: NewPart | None) -> dict[str, Layers]:
    """The layers of each new part."""
    if decoder is None and encoder is None:
        decoder = SMALL
    given = {part: network for part, network in (("decoder", decoder), ("encoder", encoder)) if network is not None}
    return {
        part: network if isinstance(network, list) else _named_part(teacher, network, part)
        for part, network in given.items()
    }


def _objective(teacher: VAE, new: dict[str, Layers]) -> dict[str, Any]:
    """The default objective; the scale that a decoder predicts for each value learns from the images."""
    terms: dict[str, Any] = {}
    if "decoder" in new:
        terms["distillation"] = {}
        if teacher.head.raw_channels(teacher.input_shape[0]) != teacher.input_shape[0]:
            terms["reconstruction"] = {}
    if "encoder" in new:
        terms["latent-distillation"] = {}
    return terms


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

    return layers(width) if width else _smaller(layers, shape, part_flops(teacher, "decoder"))


def student_encoder(teacher: VAE, *, width: Positive | None = None, blocks: Positive = 1) -> Layers:
    """An encoder like that of TAESD, to features of the teacher's shape, for which its bottleneck was trained.

    Args:
        teacher: the trained model.
        width: channels; by default the largest of `WIDTHS` with a tenth of the teacher's FLOPs.
        blocks: residual blocks of each stage but the first, which has one.
    """
    channels, *sizes = teacher.input_shape
    shape = (channels + (0 if teacher.condition is None else teacher.condition.channels), *sizes)
    features = teacher.networks["encoder"].shape_out

    def layers(own: int, is_coarse: bool = False) -> Layers:
        return _encoder_layers(shape, features, own, blocks, is_coarse)

    return layers(width) if width else _smaller(layers, shape, part_flops(teacher, "encoder"))


def _named_part(teacher: VAE, written: str | dict[str, Any], part: str) -> Layers:
    """A small part, or that of a preset for the images, the likelihood and the latent size of the teacher.

    Args:
        teacher: the trained model.
        written: the name, or a mapping of the name to its arguments.
        part: `encoder` or `decoder`.

    Raises:
        ConfigError: unknown preset, or wrong arguments.
    """
    name, given = split_name(written, part)
    if name == SMALL:
        small = student_decoder if part == "decoder" else student_encoder
        return small(teacher, **parse_arguments(small, given, f"{part} ({SMALL})"))
    if name not in PRESETS:
        names = ", ".join([SMALL, *PRESETS.names()])
        raise ConfigError(f"{part}: expected a list of layers, or one of {names}")
    known = keyword_parameters(PRESETS.get(name))
    own = {"input": list(teacher.input_shape), "latent": teacher.latent_shape[0], "likelihood": teacher.spec.likelihood}
    spec = resolve({"preset": name, **{key: value for key, value in own.items() if key in known}, **given})
    layers: Layers = [layer.to_mapping() for layer in getattr(spec, part)]
    return layers


def part_flops(model: VAE, part: str) -> int:
    """FLOPs of the encoder or the decoder for one image, two for each multiply-add; 0 of modules of your own."""
    network = model.networks.get(part)
    return 0 if network is None else network_flops(network)


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
