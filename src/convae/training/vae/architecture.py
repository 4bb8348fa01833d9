"""The architecture of a run, a description or a VAE of modules passed as an object, and its random initial weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch

from convae.core.errors import ConfigError
from convae.core.types import Shape
from convae.data import in_order
from convae.data.image_set import ImageSet, evenly_spaced
from convae.describe import build, resolve
from convae.model.construct import construct
from convae.model.fingerprint import module_classes
from convae.model.vae import VAE
from convae.training.recipe.schema import Recipe

MEAN_IMAGES = 256
"""Training images whose mean is measured."""
MODULES = "modules"
"""Key in the model of a recipe with the classes of modules passed as an object."""


def record_architecture(model: VAE) -> dict[str, Any]:
    """The record of a model in a recipe: its description, or the class names of its modules."""
    if model.is_described:
        return model.spec.model_dump(mode="json")
    return {"name": model.name, "input": list(model.input_shape), MODULES: module_classes(model)}


def input_shape(recorded: Mapping[str, Any]) -> Shape:
    """(channels, *sizes) of the images of an architecture with a recorded input."""
    return tuple(recorded["input"]) if MODULES in recorded else resolve(recorded).input


def construct_model(recorded: Mapping[str, Any], held: VAE | None) -> VAE:
    """A model of the architecture without weights: on the meta device, or a copy of the passed model.

    Raises:
        ConfigError: it is made of modules, and no model of these classes was passed.
    """
    return construct(resolve(recorded)) if MODULES not in recorded else _copy(recorded, held)


def build_model(recipe: Recipe, held: VAE | None) -> VAE:
    """A model of the architecture with initial weights: from the seed, or those of the passed model.

    Raises:
        ConfigError: it is made of modules, and no model of these classes was passed.
    """
    if MODULES in recipe.model:
        return _copy(recipe.model, held).train()
    return build(recipe.model, seed=recipe.training.seed, image_mean=recipe.training.image_mean)


def with_image_mean(recipe: Recipe, split: ImageSet, held: VAE | None) -> Recipe:
    """Adds the mean of each channel of the training images, unless the decoder starts from given weights.

    Args:
        recipe: recipe of a new run.
        split: training images.
        held: model of modules, if one was passed.
    """
    is_given = held is not None or (
        recipe.start is not None and (not recipe.start.parts or "decoder" in recipe.start.parts)
    )
    if is_given or recipe.training.image_mean is not None:
        return recipe
    total, count = torch.zeros(2, split.shape[0], dtype=torch.float64)
    for batch in in_order(split, 32, indices=evenly_spaced(len(split), MEAN_IMAGES)):
        weights = torch.ones_like(batch.images) if batch.weights is None else batch.weights.expand_as(batch.images)
        total += (batch.images * weights).transpose(0, 1).flatten(1).sum(1, dtype=torch.float64)
        count += weights.transpose(0, 1).flatten(1).sum(1, dtype=torch.float64)
    mean = tuple(round(value, 4) for value in (total / count.clamp_min(1)).tolist())
    return recipe.model_copy(update={"training": recipe.training.model_copy(update={"image_mean": mean})})


def _copy(recorded: Mapping[str, Any], held: VAE | None) -> VAE:
    """A copy of the passed model, which a run does not change."""
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
