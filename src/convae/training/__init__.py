"""Training: a recipe becomes a task, and a task that is trained becomes a run."""

from __future__ import annotations

from convae.training.loop.task import ModuleState, SavedAs, Stateful, Task, Update, Validation
from convae.training.loop.trainer import Callback, Trainer
from convae.training.recipe import Recipe, packaged_recipes, read_recipe, write_recipe
from convae.training.result import Run
from convae.training.run import resume, train

__all__ = [
    "Callback",
    "ModuleState",
    "Recipe",
    "Run",
    "SavedAs",
    "Stateful",
    "Task",
    "Trainer",
    "Update",
    "Validation",
    "packaged_recipes",
    "read_recipe",
    "resume",
    "train",
    "write_recipe",
]
