"""The model that a run begins with: its architecture, and random weights or those of a saved model.

The architecture is a description, or a VAE made of modules that the caller holds.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from convae.core.errors import ConfigError
from convae.core.names import shape_text, unknown_message
from convae.core.types import Shape
from convae.describe import build, resolve
from convae.model.artifact import fingerprint, load, module_classes
from convae.model.bottlenecks.codes import Codes
from convae.model.construct import construct
from convae.model.layers.latent_codes import LatentCodes
from convae.model.layers.quantize import Quantize
from convae.model.vae import VAE
from convae.training.recipe.reading import import_start, start_path
from convae.training.recipe.schema import Recipe, StartConfig
from convae.training.run_folder import RunFolder

MODULES = "modules"
"""Key of a recipe's model under which the classes of the modules stand that the caller holds."""


def record_architecture(model: VAE) -> dict[str, Any]:
    """What a recipe says of a model: its description, or the class names of the modules that it was made of."""
    if model.is_described:
        return model.spec.model_dump(mode="json")
    return {"name": model.name, "input": list(model.input_shape), MODULES: module_classes(model)}


def input_shape(recorded: Mapping[str, Any]) -> Shape:
    """(channels, *sizes) of the images of an architecture whose input is written down."""
    return tuple(recorded["input"]) if MODULES in recorded else resolve(recorded).input


def construct_model(recorded: Mapping[str, Any], held: VAE | None) -> VAE:
    """A model of the architecture, without values of its own: on the meta device, or a copy of the caller's.

    Raises:
        ConfigError: it is made of modules, and the caller holds no model of these classes.
    """
    return construct(resolve(recorded)) if MODULES not in recorded else _copy(recorded, held)


def build_model(recorded: Mapping[str, Any], seed: int, held: VAE | None) -> VAE:
    """A model of the architecture with initial values: those of the seed, or those of the caller's model.

    Raises:
        ConfigError: it is made of modules, and the caller holds no model of these classes.
    """
    return build(recorded, seed=seed) if MODULES not in recorded else _copy(recorded, held).train()


def _copy(recorded: Mapping[str, Any], held: VAE | None) -> VAE:
    """A copy of the caller's model: a run leaves the model itself as it is."""
    if held is None:
        raise ConfigError(
            f"model '{recorded.get('name')}' was made of modules: give the model again, such as convae.resume(path, "
            "model=model)"
        )
    found = module_classes(held)
    for part, name in recorded[MODULES].items():
        if found.get(part) != name:
            raise ConfigError(f"model: expected {part} of the class {name}, got {found.get(part)}")
    return copy.deepcopy(held)


@dataclass(frozen=True)
class Start:
    """A saved model that a run begins with.

    Attributes:
        model: with its weights.
        source: where it came from, for messages.
        sha256: of its description and weights.
        parts: that are taken; all of them where there are none.
    """

    model: VAE
    source: str
    sha256: str
    parts: tuple[str, ...]

    def tensors(self, model: VAE) -> dict[str, Tensor]:
        """The tensors of `model`, by name, that the saved model gives it.

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
    """The parts all of whose tensors are alike in two models, as an option has them."""

    def shapes(tensors: dict[str, Tensor], part: str) -> dict[str, tuple[int, ...]]:
        return {name: tuple(value.shape) for name, value in tensors.items() if name.startswith(f"{part}.")}

    fitting = [part for part in parts if shapes(ours, part) and shapes(ours, part) == shapes(theirs, part)]
    return f"[{','.join(fitting or ['encoder'])}]"


def open_start(config: StartConfig, model: VAE | None = None, held: VAE | None = None) -> Start:
    """The model that a recipe begins with.

    Args:
        config: which model.
        model: the model itself, where it is at hand; otherwise it is loaded.
        held: the model of modules that the weights of an artifact without a description belong to.

    Raises:
        ArtifactError: there is no saved model, or it is damaged.
        ConfigError: it is another one than the recipe says, or some of its weights are not finite.
    """
    source = str(config.model)
    if model is not None:
        given, source = model, "the given model"
    elif config.importer is not None:
        given = import_start(config)
    else:
        path = start_path(config.model, config.which)
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
    recipe: Recipe, folder: Path, batch_size: int, held: VAE | None = None
) -> tuple[dict[str, Tensor], str | None]:
    """The tensors of the model of a run before its first step, by name, and a sentence on where they came from.

    Args:
        recipe: of the run, with the input shape in its model.
        folder: of the run, which holds a copy of the model that it begins with.
        batch_size: images in a step.
        held: the model that the caller made of modules; None where the recipe describes the model.

    Raises:
        ArtifactError: that copy is missing or damaged.
    """
    model = build_model(recipe.model, recipe.training.seed, held)
    if recipe.start is None:
        return model.state_dict(), None
    saved = RunFolder(folder).start
    own = recipe.start.model_copy(update={"model": saved, "which": "best", "importer": None, "key": None})
    start = open_start(own if saved.exists() else recipe.start, held=held)
    model.load_state_dict(start.tensors(model), strict=False)
    for part, inner in model.named_children():
        for module in inner.modules() if not start.parts or part in start.parts else ():
            if isinstance(module, Codes | LatentCodes | Quantize):
                module.expect(batch_size)
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
    """What a model's description says differently from that of the model that it takes these parts from."""
    if not (model.is_described and start.model.is_described):
        return []
    parts = start.parts or ("encoder", "bottleneck", "decoder", "head", "classifier", "condition")
    names = ["likelihood" if part == "head" else part for part in parts]
    ours, theirs = model.spec, start.model.spec
    return [name for name in names if getattr(ours, name, None) != getattr(theirs, name, None)]
