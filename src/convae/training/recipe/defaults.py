"""What a new run takes where its recipe says nothing and the data decide."""

from __future__ import annotations

from typing import Any

from convae.data.batches import ImageSet
from convae.describe import resolve
from convae.training.recipe.plan import EPOCHS, LEAST_STEPS
from convae.training.recipe.schema import Recipe


def with_likelihood(recipe: Recipe, split: ImageSet, notes: list[str]) -> Recipe:
    """The recipe of a new run with the likelihood that suits the images, where it says none.

    Bernoulli is a likelihood of values that are near 0 or 1, which colors of photographs are not.
    """
    model = recipe.model
    is_open = "preset" in model and "likelihood" not in model and recipe.start is None
    if not is_open or split.shape[0] == 1 or resolve(model).likelihood != "bernoulli":
        return recipe
    notes.append(
        "images in color: a gaussian likelihood with a learned sigma takes the place of bernoulli; --likelihood "
        "(model.likelihood) sets another"
    )
    likelihood = {"gaussian": {"sigma": "learned"}}
    return recipe.model_copy(update={"model": {**model, "likelihood": likelihood}})


def with_length(recipe: Recipe, per_epoch: int, notes: list[str]) -> Recipe:
    """The recipe of a new run with its length, where it says none."""
    options = recipe.training
    if options.epochs or options.steps or recipe.stages:
        return recipe
    epochs = max(EPOCHS, -(-LEAST_STEPS // per_epoch))
    if epochs > EPOCHS:
        notes.append(
            f"a small data set: {epochs:,} epochs, to make {LEAST_STEPS:,} steps; --epochs or --steps sets another "
            "length"
        )
    changed: dict[str, Any] = {"epochs": epochs}
    if "pictures_every" not in options.model_fields_set:
        changed["pictures_every"] = max(1, epochs // EPOCHS)
    return recipe.model_copy(update={"training": options.model_copy(update=changed)})
