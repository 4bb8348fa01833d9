"""From the stages of a recipe to a plan: default objectives, lengths, optimizers and learning rates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from convae.core.config import parse
from convae.core.context import LatentModule
from convae.core.errors import ConfigError, ConvaeError
from convae.core.names import unknown_message
from convae.describe import resolve
from convae.model.construct import construct_latents
from convae.model.parts import required_terms
from convae.objective.objective import build_objective
from convae.objective.schedules.base import build_schedule
from convae.objective.terms import TERMS
from convae.training.optimizers.base import parse_optimizer
from convae.training.recipe.plan import LearningRate, Plan, Stage
from convae.training.recipe.schema import OptimizerConfig, Recipe, StageConfig, TrainingConfig
from convae.training.recipe.stage_objective import change_objective, term_key

_SIZE = 64
"""Image size to build a model with if neither the description nor the data states one."""
DEFAULT_EPOCHS = 10
"""Default number of epochs."""
MIN_STEPS = 1000
"""Minimum number of steps of a default length; small data sets take more epochs."""
CHECKED_STEPS = 256
"""Number of steps of a stage at which schedules are checked."""
Terms = dict[str, dict[str, Any]]
"""Terms by name, each with its `weight` and other arguments."""


def default_objective(parts: Iterable[nn.Module]) -> Terms:
    """The default objective of a model: `reconstruction`, `kl` for latents with a density, and required terms.

    Args:
        parts: a model, or its parts with latents or quantizers.
    """
    modules = nn.ModuleList(parts)
    latents = [module for module in modules.modules() if isinstance(module, LatentModule)]
    has_kl = not latents or not all(module.is_discrete or not module.has_density for module in latents)
    terms: Terms = {"reconstruction": {}, **({"kl": {}} if has_kl else {})}
    return terms | {
        name: {"weight": TERMS.get(name).default_weight} for name in required_terms(modules) if name not in terms
    }


def default_objective_of(model: Mapping[str, Any], data: Any) -> Terms:
    """The default objective of a model description; that of Gaussian latents if the description is invalid.

    Args:
        model: the key `model` of a recipe.
        data: the key `data` of a recipe, for the size of images.
    """
    config = data if isinstance(data, Mapping) else {}
    size = config.get("size") or _SIZE
    try:
        if not {"input", "preset", "encode"} & set(model):
            model = {**model, "input": [config.get("channels") or 3, *([size] * 2 if isinstance(size, int) else size)]}
        return default_objective(construct_latents(resolve(model)))
    except (ConvaeError, TypeError):
        return default_objective([])


def build_plan(recipe: Recipe, steps_per_epoch: int) -> Plan:
    """Builds the plan of a recipe for a number of batches per epoch.

    Args:
        recipe: the recipe; its model and data are not used.
        steps_per_epoch: batches per epoch.

    Raises:
        ConfigError: invalid terms, schedules, plateau or optimizer.
    """
    shared = build_objective(recipe.objective)
    known = {term_key(name, recipe.objective[name]): term for name, term in shared.terms.items()}
    options = recipe.training
    stages: list[Stage] = []
    current = options.optimizer
    learning_rate = _learning_rate(current, "training.optimizer")
    for number, written in enumerate(_written_stages(recipe)):
        where = f"stages.{number}"
        if written.optimizer is not None:
            current = _optimizer(options.optimizer, written, where)
            learning_rate = _learning_rate(current, f"{where}.optimizer")
        objective = change_objective(recipe, shared, written, known, where)
        plateau = written.until.plateau if written.until else None
        if plateau and plateau.metric not in (names := ["total", *objective.units]):
            raise ConfigError(f"{where}.until.plateau.metric: {unknown_message('metric', plateau.metric, names)}")
        stages.append(
            Stage(
                name=written.name or f"stage {number + 1}",
                steps=_length(written, steps_per_epoch),
                plateau=plateau,
                freeze=(*options.freeze, *_parts_without_adapters(recipe), *written.freeze),
                objective=objective,
                optimizer=current,
                learning_rate=learning_rate,
                has_new_optimizer=not stages or written.optimizer is not None,
            )
        )
    plan = Plan(
        tuple(stages),
        steps_per_epoch,
        strength=build_schedule(options.augmentation, "training.augmentation"),
        temperature=build_schedule(options.temperature, "training.temperature"),
    )
    return replace(plan, weighted=_check_signs(plan, recipe))


def with_steps(plan: Plan, recipe: Recipe, steps_per_epoch: int) -> Plan:
    """Rebuilds the plan of a recipe for another number of batches per epoch.

    Raises:
        ConfigError: a schedule becomes negative.
    """
    written = _written_stages(recipe)
    stages = [
        replace(stage, steps=_length(each, steps_per_epoch)) for stage, each in zip(plan.stages, written, strict=True)
    ]
    plan = replace(plan, stages=tuple(stages), steps_per_epoch=steps_per_epoch)
    return replace(plan, weighted=_check_signs(plan, recipe))


def _written_stages(recipe: Recipe) -> tuple[StageConfig, ...]:
    """The stages of a recipe; a single one by default."""
    options = recipe.training
    epochs = None if options.steps else options.epochs or DEFAULT_EPOCHS
    return tuple(recipe.stages) or (StageConfig(name="training", steps=options.steps, epochs=epochs),)


def _parts_without_adapters(recipe: Recipe) -> tuple[str, ...]:
    """The networks and the bottleneck, if the recipe has adapters, of other parts."""
    if recipe.adapters is None:
        return ()
    return tuple(part for part in ("encoder", "bottleneck", "decoder") if part not in recipe.adapters.parts)


def _length(written: StageConfig, steps_per_epoch: int) -> int:
    """Length of a stage in steps."""
    return written.steps or (written.epochs or 0) * steps_per_epoch


def default_length(options: TrainingConfig, steps_per_epoch: int) -> TrainingConfig:
    """Sets the default length unless there is one: 10 epochs, or as many as make 1,000 steps.

    Pictures then become rarer in proportion, unless their number is set.
    """
    if options.epochs or options.steps:
        return options
    epochs = max(DEFAULT_EPOCHS, -(-MIN_STEPS // steps_per_epoch))
    changed: dict[str, int] = {"epochs": epochs}
    if "pictures_every" not in options.model_fields_set:
        changed["pictures_every"] = max(1, epochs // DEFAULT_EPOCHS)
    return options.model_copy(update=changed)


def _check_signs(plan: Plan, recipe: Recipe) -> frozenset[str]:
    """Checks that no weight, learning rate or other factor becomes negative.

    Returns:
        The terms with a nonzero weight at some step.

    Raises:
        ConfigError: a factor becomes negative; the message names its path in the recipe.
    """
    values: dict[str, list[float]] = {}
    weighted: set[str] = set()
    for number, stage in enumerate(plan.stages):
        starts, written = plan.stage_starts()[: number + 1], recipe.stages[number] if recipe.stages else None
        steps = sorted({starts[-1] + stage.steps * part // CHECKED_STEPS for part in range(CHECKED_STEPS)})
        clocks = [plan.clocks(starts, step) for step in steps]
        optimizer = f"stages.{number}.optimizer" if written and written.optimizer else "training.optimizer"
        rates = [stage.learning_rate(at.optimizer, at.optimizer_steps) for at in clocks]
        values.setdefault(f"{optimizer}.schedule", []).extend(rates)
        values.setdefault("training.temperature", []).extend(plan.temperature(at.training) for at in clocks)
        epochs = {step // plan.steps_per_epoch for step in steps}
        values.setdefault("training.augmentation", []).extend(map(plan.augmentation_strength, epochs))
        for weights in [stage.objective.weights(at) for at in clocks]:
            for name, weight in weights.items():
                of_stage = f"stages.{number}." if written and name in written.objective else ""
                values.setdefault(f"{of_stage}objective.{name}.weight", []).append(weight)
                weighted |= {name} if weight else set()
    for where, each in values.items():
        if (lowest := min(each)) < 0:
            raise ConfigError(f"{where}: expected values of at least 0, got {lowest:g}")
    return frozenset(weighted)


def _learning_rate(config: OptimizerConfig, where: str) -> LearningRate:
    """The learning rate of an optimizer whose name and options are valid."""
    parse_optimizer(config.name, where)
    return LearningRate(config, where)


def _optimizer(base: OptimizerConfig, written: StageConfig, where: str) -> OptimizerConfig:
    """The optimizer options of the recipe, with the changes of a stage."""
    return parse(OptimizerConfig, {**base.model_dump(), **(written.optimizer or {})}, f"{where}.optimizer")
