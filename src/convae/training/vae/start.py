"""The saved model from which a run starts: its weights, adapters, and the teacher of terms of distillation."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from convae.core.errors import ConfigError
from convae.core.names import shape_text, unknown_message
from convae.model.adapters import adapter_names, add_adapters
from convae.model.artifact import load
from convae.model.bottlenecks.codes import Codes
from convae.model.fingerprint import fingerprint
from convae.model.layers.latent_codes import LatentCodes
from convae.model.layers.quantize import Quantize
from convae.model.vae import VAE
from convae.objective.terms.base import NO_TEACHER
from convae.training.recipe.plan import Plan
from convae.training.recipe.schema import AdapterConfig, Recipe, StartConfig
from convae.training.recipe.stage_objective import stage_objective
from convae.training.recipe.stages import default_objective
from convae.training.recipe.start import find_start_model, import_start_model, start_from_copy
from convae.training.run_folder import RunFolder
from convae.training.vae.architecture import build_model, record_architecture


@dataclass(frozen=True)
class Start:
    """A saved model as the start of a run.

    Attributes:
        model: model with its weights.
        source: its origin for messages.
        sha256: SHA-256 of its description and weights.
        parts: parts to load; empty for all.
    """

    model: VAE
    source: str
    sha256: str
    parts: tuple[str, ...]

    def tensors(self, model: VAE) -> dict[str, Tensor]:
        """The tensors of the saved model to load into `model`, by name.

        Raises:
            ConfigError: a part is missing, or a tensor does not fit; the message names the first one.
        """
        ours, theirs = model.state_dict(), self.model.state_dict()
        parts = [name for name, _ in model.named_children()]
        for number, part in enumerate(self.parts):
            if part not in parts:
                raise ConfigError(f"start.parts.{number}: {unknown_message('part', part, parts)}")
        taken = tuple(f"{part}." for part in self.parts) or ("",)
        wanted = {name: value for name, value in ours.items() if name.startswith(taken)}
        given = {name: value for name, value in theirs.items() if name.startswith(taken)}
        for name in [*wanted, *given]:
            here = shape_text(wanted[name].shape) or "one number" if name in wanted else "missing"
            there = shape_text(given[name].shape) or "one number" if name in given else "missing"
            if here != there:
                raise ConfigError(
                    f"start: {self.source} does not fit the model: '{name}' is {there} in it and {here} in the model. "
                    "Leave model out to take its architecture, or name the parts to take, such as "
                    f"start.parts={_fitting(ours, theirs, parts)}"
                )
        return given


def _fitting(ours: dict[str, Tensor], theirs: dict[str, Tensor], parts: Sequence[str]) -> str:
    """The parts with equal shapes in both models, in the form of the option."""

    def shapes(tensors: dict[str, Tensor], part: str) -> dict[str, tuple[int, ...]]:
        return {name: tuple(value.shape) for name, value in tensors.items() if name.startswith(f"{part}.")}

    fitting = [part for part in parts if shapes(ours, part) and shapes(ours, part) == shapes(theirs, part)]
    return f"[{','.join(fitting or ['encoder'])}]"


def open_start(config: StartConfig, model: VAE | None = None, held: VAE | None = None) -> Start:
    """The saved model from which a recipe starts.

    Args:
        config: options of `start`.
        model: the model, if it was passed; otherwise it is loaded.
        held: model of modules for the weights of an artifact without a description.

    Raises:
        ArtifactError: the saved model is missing or damaged.
        ConfigError: it differs from the recorded one, or has non-finite weights.
    """
    source = str(config.model)
    if model is not None:
        given, source = model, "the given model"
    elif config.importer is not None:
        given = import_start_model(config)
    else:
        path = find_start_model(config.model, config.which)
        given, source = load(path, model=copy.deepcopy(held)), str(path)
    for name, tensor in given.state_dict().items():
        if not tensor.isfinite().all():
            raise ConfigError(f"start: '{name}' of {source} holds values that are not finite: start from another model")
    sha256 = fingerprint(given)
    if config.sha256 is not None and config.sha256 != sha256:
        raise ConfigError(
            f"start: {source} is another model than the one that the recipe names (its SHA-256 is {sha256[:12]}…, not "
            f"{config.sha256[:12]}…): take start.sha256 out of the recipe to start from what is there now"
        )
    return Start(given, source, sha256, config.parts)


def initial_weights(
    recipe: Recipe, folder: Path, batch_size: int, held: VAE | None
) -> tuple[dict[str, Tensor], str | None]:
    """The initial tensors of a run by name, and a note on their origin.

    Args:
        recipe: recipe of the run, with the input shape of the model.
        folder: run folder with a copy of the initial model.
        batch_size: images per step.
        held: model of modules, if one was passed.

    Raises:
        ArtifactError: the copy is missing or damaged.
    """
    model = build_model(recipe, held)
    if recipe.start is None:
        return model.state_dict(), None
    saved = RunFolder(folder).start
    start = open_start(start_from_copy(recipe.start, saved) if saved.exists() else recipe.start, held=held)
    model.load_state_dict(start.tensors(model), strict=False)
    for part, inner in model.named_children():
        for module in inner.modules() if not start.parts or part in start.parts else ():
            if isinstance(module, Codes | LatentCodes | Quantize):
                module.rescale_usage(batch_size)
    provenance = start.model.provenance
    origin = provenance.training
    trained = f" after step {origin.step}" if origin is not None and origin.step is not None else ""
    sentence = f"starts from {recipe.start.model}{trained}: {', '.join(start.parts) or 'the whole model'}"
    if other := _differences(start, model):
        sentence += f"; its {' and '.join(other)} was described differently there"
    if provenance.imported is not None:
        sentence += "".join(f"; {note}" for note in provenance.imported.notes)
    return model.state_dict(), sentence


def _differences(start: Start, model: VAE) -> list[str]:
    """Differences of the descriptions of two models in these parts."""
    if not (model.is_described and start.model.is_described):
        return []
    parts = start.parts or ("encoder", "bottleneck", "decoder", "head", "classifier", "condition")
    names = ["likelihood" if part == "head" else part for part in parts]
    ours, theirs = model.spec, start.model.spec
    return [name for name in names if getattr(ours, name, None) != getattr(theirs, name, None)]


def split_off_model(
    recipe: Recipe | Mapping[str, Any] | str | Path,
) -> tuple[Recipe | Mapping[str, Any] | str | Path, VAE | None]:
    """Splits a recipe with a model object into a recipe without, and the model."""
    if not isinstance(recipe, Mapping):
        return recipe, None
    model, start = recipe.get("model"), recipe.get("start")
    options = dict(start) if isinstance(start, Mapping) else {"model": start}
    given = next((each for each in (options.get("model"), model) if isinstance(each, VAE)), None)
    if given is None:
        return recipe, None
    written = {key: value for key, value in recipe.items() if key != "model" or not isinstance(value, VAE)}
    own = model if isinstance(model, VAE) else given
    if "model" not in written:
        written["model"] = record_architecture(own)
        written.setdefault("objective", default_objective([own]))
    if isinstance(options.get("model"), VAE) or start is None:
        written["start"] = {**options, "model": "start"}
        return written, given
    return written, None


def adapt(model: VAE, recipe: Recipe) -> VAE:
    """The model with the adapters of the recipe, if it has any.

    Raises:
        ConfigError: the recipe has no `start`, shards the model, or names parts or weights that are not there.
    """
    options = recipe.adapters
    if options is None:
        return model
    if recipe.start is None:
        raise ConfigError("adapters: change trained weights. Set start (--start) to a trained model")
    if recipe.training.shard:
        raise ConfigError("adapters: do not apply to sharded models. Leave training.shard out")
    add_adapters(model, **dict(options), seed=recipe.training.seed)
    return model


def frozen_by_adapters(options: AdapterConfig | None, model: VAE) -> tuple[str, ...]:
    """The parts without adapters, and the other parameters and buffers of those with some; empty without adapters."""
    if options is None:
        return ()
    own = set(adapter_names(model))
    parts = [name for name, _ in model.named_children() if name not in options.parts]
    names = [name for name, _ in (*model.named_parameters(), *model.named_buffers())]
    return (*parts, *(name for name in names if name.partition(".")[0] in options.parts and name not in own))


def open_teacher(
    recipe: Recipe,
    plan: Plan,
    device: torch.device,
    folder: RunFolder | None = None,
    *,
    given: VAE | None = None,
    held: VAE | None = None,
) -> VAE | None:
    """The frozen model of `start`, in float32; None if no term of the plan compares the model with it.

    Args:
        recipe: the recipe.
        plan: its stages.
        device: of the teacher.
        folder: folder of a run that is resumed, with its copy of the model.
        given: model of `start`, if it was passed as an object.
        held: model of modules for the weights of an artifact without a description.

    Raises:
        ConfigError: the recipe has no `start`.
        ArtifactError: the model is missing or damaged.
    """
    if not any(stage_objective(stage).needs_teacher for stage in plan.stages):
        return None
    start = recipe.start
    if start is None:
        raise ConfigError(f"objective: {NO_TEACHER}")
    if folder is not None and folder.start.exists():
        start = start_from_copy(start, folder.start)
    model = open_start(start, given, held).model
    return copy.deepcopy(model).float().eval().requires_grad_(False).to(device)
