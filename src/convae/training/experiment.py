"""From a recipe to the objects of a run: the only place where configuration becomes objects."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from convae.core.allocator import keep_freed_memory
from convae.core.device import device
from convae.core.errors import ConfigError
from convae.core.names import shape_text
from convae.core.progress import Progress
from convae.data import Batches, Split, open_split
from convae.model.artifact import load
from convae.model.build import build
from convae.model.spec import resolve
from convae.model.vae import VAE
from convae.training.freezing import Frozen
from convae.training.plan import Plan, plan
from convae.training.recipe import Recipe


@dataclass(frozen=True)
class Experiment:
    """What a trainer works with.

    Attributes:
        recipe: the recipe, with the input shape that the data gave written into its model.
        model: with initial weights, on the device.
        plan: the stages, with what each minimises and how fast.
        batches: of the training images.
        validation: images held out; None when the recipe holds none out.
        device: where the model is.
    """

    recipe: Recipe
    model: VAE
    plan: Plan
    batches: Batches
    validation: Split | None
    device: torch.device


def experiment(recipe: Recipe, progress: Progress | None = None) -> Experiment:
    """The objects that a recipe describes.

    Raises:
        ConfigError: the recipe asks for something that is not there, or that does not go together.
        ShapeError: the network cannot take the images.
        DataError: the images cannot be found or read.
    """
    where = device(recipe.training.device)
    keep_freed_memory()
    plan(recipe, 1, encoder_layers)  # before the data is prepared, which may take long
    recipe, split, validation = _with_data(recipe, progress)
    model = build(recipe.model, seed=recipe.training.seed).to(where)
    layouts = {3: torch.channels_last, 4: torch.channels_last_3d}
    if len(split.shape) in layouts:
        model.to(memory_format=layouts[len(split.shape)])  # type: ignore[call-overload]  # missing in torch's stub
    batches = Batches(split, recipe.training.batch_size, recipe.training.seed)
    stages = plan(recipe, batches.steps_per_epoch, encoder_layers)
    for number, stage in enumerate(stages.stages):
        Frozen(model, stage.freeze, f"stages.{number}.freeze")
        stage.objective.to(where)
    return Experiment(
        recipe=recipe,
        model=model,
        plan=stages,
        batches=batches,
        validation=validation,
        device=where,
    )


def encoder_layers(path: str) -> nn.Sequential:
    """The layers of a saved model's encoder."""
    return load(path).encoder


def _with_data(recipe: Recipe, progress: Progress | None) -> tuple[Recipe, Split, Split | None]:
    """The recipe with one shape for data and model, and the images to train and to validate on.

    A model whose input is written down decides the size of the images. A preset without one takes the images as
    they are, or where they have several sizes, at its own size.
    """
    wanted = resolve(recipe.model).input
    data = recipe.data
    if "preset" in recipe.model and "input" not in recipe.model:
        split = open_split(data, "train", size=wanted[1:], channels=wanted[0], progress=progress)
    else:
        data = data.model_copy(
            update={"size": data.size or wanted[1:], "channels": data.channels or wanted[0]},
        )
        split = open_split(data, "train", progress=progress)
        if split.shape != wanted:
            raise ConfigError(f"model.input is {shape_text(wanted)}, but the images are {shape_text(split.shape)}")
    data = data.model_copy(update={"size": split.shape[1:], "channels": split.shape[0]})
    model = {**recipe.model, "input": list(split.shape)} if "preset" in recipe.model else recipe.model
    recipe = recipe.model_copy(update={"name": recipe.title, "model": model, "data": data})
    return recipe, split, open_split(data, "validation", progress=progress) if data.validation else None
