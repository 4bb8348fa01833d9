"""Recipes: keys, parsing, and the plan of stages, weights and learning rates."""

from __future__ import annotations

from convae.training.recipe.reading import packaged_recipes, read_recipe, recipe_summary, write_recipe
from convae.training.recipe.schema import (
    LabeledConfig,
    OptimizerConfig,
    PlateauConfig,
    Recipe,
    StageConfig,
    StartConfig,
    TrainingConfig,
)

__all__ = [
    "LabeledConfig",
    "OptimizerConfig",
    "PlateauConfig",
    "Recipe",
    "StageConfig",
    "StartConfig",
    "TrainingConfig",
    "packaged_recipes",
    "read_recipe",
    "recipe_summary",
    "write_recipe",
]
