"""Checks of a recipe, its model and its data before a training."""

from __future__ import annotations

import contextlib

import torch
from torch import nn

from convae.core.errors import ConfigError, ConvaeError, ShapeError
from convae.core.joint_posterior import split_posterior
from convae.core.posterior import Posterior
from convae.core.random import torch_generator
from convae.data import in_order
from convae.data.image_set import ImageSet
from convae.model.bottlenecks.base import Bottleneck
from convae.model.compatibility import check_fill, check_labels, check_levels
from convae.model.parts import required_terms
from convae.model.vae import VAE
from convae.objective.terms import TERMS
from convae.objective.terms.base import missing_term
from convae.training.loggers.base import build_loggers
from convae.training.loop.engine import FrozenParts
from convae.training.recipe.plan import Plan
from convae.training.recipe.schema import Recipe
from convae.training.recipe.stage_objective import StageObjective, stage_objective
from convae.training.recipe.stages import build_plan
from convae.training.vae.architecture import construct_model
from convae.training.vae.start import Start, frozen_by_adapters
from convae.training.vae.task import VAETask

_AUTOENCODER = (
    "no term holds the posterior to the prior, such as kl: the model becomes an autoencoder, and samples "
    "from the prior mean nothing"
)
_OTHER_CLASSES = "Use data with these classes, or take over other parts than condition and classifier (start.parts)"
_AGGREGATE = ("dimension-kl", "mutual-information", "total-correlation")
"""Terms of densities of the aggregate posterior at drawn latents."""


def check_description(recipe: Recipe, held: VAE | None) -> Plan:
    """Checks objective, schedules and network before the data is downloaded and decoded.

    Returns:
        The plan for one step per epoch.

    Raises:
        ConvaeError: lists all errors.
    """
    build_loggers(recipe.training.loggers)
    faults: list[ConvaeError] = []
    plan = model = None
    try:
        plan = build_plan(recipe, 1)
    except ConvaeError as error:
        faults.append(error)
    try:
        model = _check_model(recipe, held)
    except ConvaeError as error:
        faults.append(error)
    if faults or plan is None:
        raise type(faults[0])("; ".join(map(str, faults))) from faults[0]
    if model is not None:
        _check_terms(model, plan)
    return plan


def _check_model(recipe: Recipe, held: VAE | None) -> VAE | None:
    """The network for the known or an example input; None if its shapes need the data."""
    model = dict(recipe.model)
    if not {"input", "preset", "encode"} & set(model):
        model["input"] = [recipe.data.channels or 3, *(recipe.data.size or (64, 64))]
    if "encode" in model and "input" not in model:
        return None
    with contextlib.suppress(ShapeError):
        return construct_model(model, held)
    return None


def _check_terms(model: VAE, stages: Plan) -> None:
    """Checks that every stage has the terms that the model and other terms require.

    Raises:
        ConfigError: a term is missing.
    """
    for stage in stages.stages:
        trained = (part for name, part in model.named_children() if name not in stage.freeze)
        for term in (names := required_terms(nn.ModuleList(trained))):
            if term not in stage.objective.units:
                given = "".join(f", {name}: {TERMS.get(name).default_weight:g}" for name in names)
                raise ConfigError(
                    f"objective: this model cannot be trained without the term {term}: give "
                    f"'objective={{reconstruction: 1{given}}}', or no objective"
                )
        for name in stage.objective.units:
            for needed in TERMS.get(name).required_terms:
                if needed not in stage.objective.units:
                    raise ConfigError(f"objective.{name}: {missing_term(needed)}")


def check_stages(recipe: Recipe, model: VAE, plan: Plan, notes: list[str]) -> None:
    """Checks the plan against the model; what a person should know of both is added to `notes`.

    Raises:
        ConfigError: a stage freezes what is not there, or all.
    """
    for number, stage in enumerate(plan.stages):
        frozen = (*stage.freeze, *frozen_by_adapters(recipe.adapters, model))
        FrozenParts(model, frozen, f"stages.{number}.freeze" if len(plan.stages) > 1 else "freeze")
    if _has_free_posterior(model, plan):
        notes.append(_AUTOENCODER)


def check_data_labels(model: VAE, started: list[Start], split: ImageSet, validation: ImageSet | None) -> None:
    """Checks that the labels of the data are consistent with the model and with that of `start`.

    Raises:
        ConfigError: they are not.
    """
    for each in started:
        if not each.parts or {"classifier", "condition"} & set(each.parts):
            check_labels(each.model, split.labels, split.source, split.classes, _OTHER_CLASSES)
    if validation is not None:
        check_labels(
            model, validation.labels, f"the validation part of {validation.source} (data.validation=0 does without)"
        )


def check_prior(model: VAE) -> None:
    """Checks that the prior is one that is trained with the model.

    Raises:
        ConfigError: it is fitted to a trained model.
    """
    if model.prior.is_fitted_after:
        raise ConfigError(
            f"model.prior: {type(model.prior).__name__} is fitted to a trained model, and is not trained with it. "
            "Describe the model without this prior, and run convae prior after the training"
        )


@torch.no_grad()
def try_batch(made: VAETask) -> None:
    """Runs two images through the model and the objective of every stage, to find errors before the training.

    Raises:
        ConfigError: the model or the data lacks what a term needs.
        ShapeError: the images are too small for a term.
    """
    _check_terms(made.model, made.plan)
    check_levels(made.model, made.images.levels, made.images.source)
    missing = made.images.missing
    check_fill(made.model, None if missing is None else missing.fill, made.images.source)
    made.model.eval()
    batch = next(in_order(made.images, 2, made.device))
    stage_starts: list[int] = []
    for stage, begin in zip(made.plan.stages, made.plan.stage_starts(), strict=True):
        stage_starts.append(begin)
        objective = stage_objective(stage)
        output = made.model(batch.images, torch_generator(0, "trial"), batch.labels, samples=objective.samples)
        if made.recipe.training.temperature != 1:
            _check_temperature(made.model.bottleneck, objective, output.posterior)
        objective(batch, output, made.plan.clocks(stage_starts, begin))
    # A classifier may have been trained before.
    if made.model.classifier and "classification" not in made.plan.weighted and made.recipe.start is None:
        raise ConfigError("model.classifier: no term trains it: give objective.classification, or leave it out")
    made.model.train()


def _check_temperature(bottleneck: Bottleneck, objective: StageObjective, posterior: Posterior) -> None:
    """Checks that latents are drawn with a standard deviation, and may be drawn with another one.

    Raises:
        ConfigError: they are not, or a term is an estimate with densities of samples of the posterior.
    """
    if objective.samples > 1 or "importance-weighted" in objective.units:
        raise ConfigError(
            "training.temperature: importance weights are those of samples of the posterior itself. Leave it out"
        )
    estimated = set(_AGGREGATE)
    if any(not part.has_closed_kl for part in split_posterior(posterior)):
        estimated |= {"kl", "capacity"}
    if found := sorted(estimated & set(objective.units)):
        raise ConfigError(
            f"training.temperature: {found[0]} is estimated here with samples of the posterior itself. Leave one of "
            "them out"
        )
    if bottleneck.is_discrete or not bottleneck.has_density:
        raise ConfigError("training.temperature: this bottleneck draws no latents: leave it out")
    if bottleneck.is_spherical:
        raise ConfigError("training.temperature: set max_concentration of the bottleneck instead")


def _has_free_posterior(model: VAE, plan: Plan) -> bool:
    """Whether a Gaussian posterior is trained without a term that regularizes it."""
    if all({"encoder", "bottleneck"} <= set(stage.freeze) for stage in plan.stages):
        return False
    has_codes = bool(model.bottleneck.codebook_sizes)
    is_regularized = any(TERMS.get(name).regularizes_posterior for name in plan.weighted)
    return model.bottleneck.has_density and not has_codes and not is_regularized
