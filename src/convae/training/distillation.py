"""Distillation: training a smaller decoder or encoder from a frozen model, as a VAE of which these parts are new."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from convae.core.arguments import keyword_parameters, parse_arguments, split_name
from convae.core.errors import ConfigError
from convae.core.paths import local_path, safe_name
from convae.core.progress import Progress
from convae.core.trust import trusted_packages
from convae.describe import resolve
from convae.model.presets import PRESETS
from convae.model.pretrained import model_path
from convae.model.vae import VAE
from convae.training.loop.trainer import Callback
from convae.training.recipe.start import choose_data, open_trained_model
from convae.training.result import Run
from convae.training.run import train
from convae.training.student import Layers, student_decoder, student_encoder

SMALL = "small"
"""Name of a new part that is made for its teacher."""
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
        read, overrides = choose_data(teacher, run, overrides, has_objects=data is not None)
        caches = "encoder" not in new and read.get("binarize") != "dynamic"  # whose images differ between epochs
        recipe: dict[str, Any] = {
            "name": safe_name(f"{_name(model, teacher)}-distilled"),
            "start": {
                "model": model if isinstance(model, VAE) else str(model_path(model, Path())),
                "parts": kept,
            },
            "model": {**teacher.spec.model_dump(mode="json"), **new},
            "data": {**read, "augment": {}},
            "objective": _objective(teacher, new),
            "training": {"freeze": [name for name in kept if name != "head"], "cache_latents": caches},
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
