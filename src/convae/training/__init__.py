"""Training: from a recipe to a task, and from a task to a run."""

from __future__ import annotations

from convae.training.distillation import distill
from convae.training.distributed import Ranks
from convae.training.loggers import LOGGERS
from convae.training.loggers.base import LoggedRun, Logger
from convae.training.loop.task import ModuleState, SavedAs, Stateful, Task, Update, Validation
from convae.training.loop.trainer import Callback, Trainer
from convae.training.optimizers import OPTIMIZERS
from convae.training.prior.run import fit_prior
from convae.training.recipe import Recipe, packaged_recipes, read_recipe, write_recipe
from convae.training.recipe.plan import Plan, Stage, single_stage
from convae.training.result import PriorRun, Run
from convae.training.run import resume, train, train_task

__all__ = [
    "LOGGERS",
    "OPTIMIZERS",
    "Callback",
    "LoggedRun",
    "Logger",
    "ModuleState",
    "Plan",
    "PriorRun",
    "Ranks",
    "Recipe",
    "Run",
    "SavedAs",
    "Stage",
    "Stateful",
    "Task",
    "Trainer",
    "Update",
    "Validation",
    "distill",
    "fit_prior",
    "packaged_recipes",
    "read_recipe",
    "resume",
    "single_stage",
    "train",
    "train_task",
    "write_recipe",
]
