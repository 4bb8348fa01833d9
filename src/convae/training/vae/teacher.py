"""The teacher of a distillation: the model from which a run starts, frozen."""

from __future__ import annotations

import copy

import torch

from convae.core.errors import ConfigError
from convae.model.vae import VAE
from convae.objective.terms.base import NO_TEACHER
from convae.training.recipe.plan import Plan
from convae.training.recipe.schema import Recipe
from convae.training.run_folder import RunFolder
from convae.training.vae.start import open_start
from convae.training.vae.task import stage_objective


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
        start = start.model_copy(update={"model": folder.start, "which": "best", "importer": None, "key": None})
    model = open_start(start, given, held).model
    return copy.deepcopy(model).float().eval().requires_grad_(False).to(device)
