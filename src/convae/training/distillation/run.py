"""Distillation: training a smaller decoder or encoder from a frozen model, as a VAE of which these parts are new."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from convae.core.errors import ConfigError
from convae.core.names import unknown_message
from convae.core.paths import absolute_path, local_path, safe_name
from convae.core.progress import Progress
from convae.core.trust import trusted_packages, untrusted_names
from convae.model.artifact import load
from convae.model.vae import VAE
from convae.training.distillation.student import Layers, preset_part, student_decoder, student_encoder
from convae.training.loop.trainer import Callback
from convae.training.prior.build import data_of_model
from convae.training.recipe.reading import find_start_model
from convae.training.result import Run
from convae.training.run import train

Part = Literal["decoder", "encoder"]
Network = str | dict[str, Any] | Layers
"""Name of a preset, a mapping of it to its arguments, or a list of layers."""


def distill(
    model: VAE | str | Path,
    *,
    parts: Sequence[Part] = (),
    decoder: Network | None = None,
    encoder: Network | None = None,
    width: int | None = None,
    blocks: int = 1,
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
        parts: the parts to train; by default those that are given, or else the decoder.
        decoder: the new decoder: name of a preset, a mapping of it to its arguments, or a list of layers; by default
            one like that of TAESD.
        encoder: the new encoder, in the same forms.
        width: channels of a part that is not given; by default so many that it has a tenth of the teacher's FLOPs.
        blocks: residual blocks of each stage of a part that is not given.
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
        new = _new_parts(teacher, parts, {"decoder": decoder, "encoder": encoder}, width, blocks)
        kept = [name for name, _ in teacher.named_children() if name not in new]
        recipe: dict[str, Any] = {
            "name": safe_name(f"{_name(model, teacher)}-distilled"),
            "start": {
                "model": model if isinstance(model, VAE) else str(absolute_path(local_path(model))),
                "parts": kept,
            },
            "model": {**teacher.spec.model_dump(mode="json"), **new},
            "objective": _objective(teacher, new),
            "training": {"freeze": [name for name in kept if name != "head"], "cache_latents": "encoder" not in new},
        }
        if data is not None:
            recipe["data"] = {"validation": teacher.provenance.data.get("validation", 0.1)}
        elif any(each.startswith("data.source=") for each in overrides):
            recipe["data"] = {}
        else:
            recipe["data"] = {**data_of_model(teacher, run), "augment": {}}
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


def _open(model: VAE | str | Path) -> tuple[VAE, Path | None]:
    """The teacher, and the folder of its run if it has one.

    Raises:
        ConfigError: it has several latents, or no description.
    """
    if isinstance(model, VAE):
        teacher, run = model, None
    else:
        path = find_start_model(model, "best")
        with untrusted_names():
            teacher = load(path)
        run = next((each for each in (path, path.parent) if (each / "recipe.yaml").is_file()), None)
    if teacher.is_hierarchical:
        raise ConfigError(
            f"model '{teacher.name}' has several latents: its decoder draws some of them, so it cannot be distilled. "
            "Use a model with one latent"
        )
    if not teacher.is_described:
        raise ConfigError(f"model '{teacher.name}' was made of modules. Use a model with a description")
    return teacher, run


def _name(model: VAE | str | Path, teacher: VAE) -> str:
    """A name for the run: that of the teacher's run or artifact."""
    if isinstance(model, VAE):
        return teacher.name
    path = local_path(model).absolute()
    return path.parent.name if path.name in ("model", "last") else path.name


def _new_parts(
    teacher: VAE, parts: Sequence[Part], given: dict[str, Network | None], width: int | None, blocks: int
) -> dict[str, Layers]:
    """The layers of each new part."""
    chosen = list(dict.fromkeys([*parts, *(part for part, network in given.items() if network is not None)]))
    found: dict[str, Layers] = {}
    for part in chosen or ["decoder"]:
        if part not in given:
            raise ConfigError(f"parts: {unknown_message('part', part, given)}")
        network = given.get(part)
        if network is None:
            found[part] = {"decoder": student_decoder, "encoder": student_encoder}[part](teacher, width, blocks)
        else:
            found[part] = network if isinstance(network, list) else preset_part(teacher, network, part)
    return found


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
