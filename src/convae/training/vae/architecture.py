"""The architecture of the model that a run trains: a description, or a VAE made of modules that the caller holds."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from convae.core.errors import ConfigError
from convae.core.types import Shape
from convae.describe import build, resolve
from convae.model.artifact import module_classes
from convae.model.construct import construct
from convae.model.vae import VAE

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
