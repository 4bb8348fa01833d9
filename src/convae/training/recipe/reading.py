"""Parsing of recipes: short forms, paths, overrides, and packaged recipes."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from convae.core.config import override, parse
from convae.core.description import Spec
from convae.core.documents import read_mapping
from convae.core.errors import ArtifactError, ConfigError
from convae.core.names import nearest_name
from convae.core.paths import local_path, with_absolute_paths
from convae.data import SOURCES, absolute_data
from convae.data.image_set import ImageSet
from convae.describe import find_description, resolve
from convae.model.artifact import find, read_description
from convae.model.presets import PRESETS
from convae.model.pretrained import model_path
from convae.objective.terms import TERMS
from convae.training.recipe.schema import PriorRecipe, Recipe, StartConfig
from convae.training.recipe.stages import DEFAULT_EPOCHS, MIN_STEPS, default_length, default_objective_of
from convae.training.recipe.start import describe_start_model

PACKAGED = Path(__file__).parents[2] / "recipes"
"""Folder of the packaged recipes."""
_FIELDS = {part for path in Recipe.paths() for part in path.split(".")} | set(Spec.model_fields)
"""All keys of recipes and of model descriptions."""
_NAMED = {"objective", "source", "encoder", "bottleneck", "decoder", "layers", "likelihood", "prior", "classifier"}
"""Keys of mappings from registered names or dotted paths, whose packages may have names of recipe keys."""
_PRIOR_FIELDS = {part for path in PriorRecipe.paths() for part in path.split(".")}
"""All keys of recipes of priors."""
_NAMED_OF_PRIORS = {"prior", "source"}
"""As `_NAMED`, for recipes of priors."""
_DESCRIBES = {"preset", "encoder", "encode", "decode", "modules"}
"""A complete model description has at least one of these keys."""


def packaged_recipes() -> dict[str, Path]:
    """The YAML files of packaged recipes by name."""
    return {path.stem: path for path in sorted(PACKAGED.glob("*.yaml"))}


def is_packaged(name: str) -> bool:
    """Whether a packaged recipe has a name that no file, run or artifact has.

    A folder of images may have it, as in `convae train photos --data photos`.
    """
    path = Path(name)
    is_taken = path.is_file() or any((path / each).is_file() for each in ("recipe.yaml", "config.json"))
    return name in packaged_recipes() and not is_taken


def recipe_summary(path: Path) -> str:
    """The summary of a recipe: the first line of the file, a comment."""
    with path.open(encoding="utf-8") as file:
        return file.readline().removeprefix("#").strip().rstrip(".")


def read_recipe(source: Recipe | Mapping[str, Any] | str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads and validates a recipe.

    Args:
        source: a recipe, a mapping, the path of a YAML or JSON file, or the name of a packaged recipe.
        overrides: `key.path=value` each.

    Raises:
        ConfigError: the recipe is invalid; the message lists all errors with their paths, and the nearest valid names.
    """
    if isinstance(source, Recipe):
        source = source.model_dump(mode="json")
    if isinstance(source, Mapping):
        return _parse(source, overrides, "recipe")
    path = local_path(source)
    folder = path.parent
    if is_packaged(str(path)):
        # Paths in a packaged recipe are relative to the working directory.
        path, folder = packaged_recipes()[str(path)], Path()
    elif not path.exists():
        raise ConfigError(f"{path}: no such recipe{_suggest(path)}")
    read = {"encode": None} if path.suffix == ".py" else read_mapping(path)
    if "model" not in read and {"preset", "encoder", "encode"} & set(read):
        raise ConfigError(f"{path}: a model description, not a recipe. Run convae train --data DATA model={path}")
    return _parse(read, overrides, str(path), folder)


def _suggest(path: Path) -> str:
    """A suggestion for the name of a missing recipe, to end the error message with."""
    if str(path) in PRESETS:
        return f". To train this preset, use --preset {path}, or model.preset={path}"
    if str(path) in SOURCES:
        return f". To train on this data set, use --data {path}, or data={path}"
    if path.stem in packaged_recipes():
        return f". To train the packaged recipe, run convae train {path.stem}"
    if (match := nearest_name(str(path), SOURCES.names(), cutoff=0.8)) is not None:
        return f": did you mean --data {match}?"
    if not path.suffix and path.parent == Path() and (match := nearest_name(str(path), packaged_recipes())) is not None:
        return f": did you mean '{match}'? convae recipes lists the packaged ones"
    return ""


def _parse(source: Mapping[str, Any], overrides: Sequence[str], where: str, folder: Path = Path()) -> Recipe:
    """Validates a mapping with overrides, both of which may use short forms.

    Paths in the mapping are relative to `folder`, those in overrides to the working directory.
    """
    written = _expand(source, folder)
    has_start = "start" in written or any(re.match(r"start\b", assignment) for assignment in overrides)
    if "model" not in written and not has_start:
        written["model"] = find_description("torch-vae")[0]
    # Those of terms apply to the default objective, which depends on the others.
    early = [one for one in overrides if "objective" in written or not one.startswith("objective.")]
    result = _override_and_expand(written, early)
    if "model" not in result:
        result["model"] = describe_start_model(result.get("start"), where)
    elif has_start and not _DESCRIBES & set(result["model"]):
        given = ", ".join(f"model.{key}" for key in result["model"])
        raise ConfigError(f"{where}: {given}: start defines the model. Remove the key, or describe the entire model")
    if "objective" not in written:
        default = default_objective_of(result["model"], result.get("data"))
        result["objective"] = _override_and_expand({**written, "objective": default}, overrides)["objective"]
    return parse(Recipe, result, where)


def _override_and_expand(written: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Applies overrides to a recipe, and expands short forms in them."""
    return _expand(override(written, overrides, _FIELDS, _NAMED, {"objective"}))


def _expand(source: Mapping[str, Any], folder: Path = Path()) -> dict[str, Any]:
    """Expands short forms to mappings, so that overrides can change single keys in them, and makes paths absolute.

    The recipe in a run folder therefore does not depend on the working directory.
    """
    result = dict(source)
    if isinstance(result.get("data"), str | os.PathLike):
        result["data"] = {"source": result["data"]}
    if isinstance(result.get("data"), Mapping):
        result["data"] = absolute_data(result["data"], folder)
    model, start = result.get("model"), result.get("start")
    if isinstance(start, str | os.PathLike):
        start = {"model": start}
    if isinstance(start, Mapping):
        result["start"] = with_absolute_paths(StartConfig, start, folder)
    if _is_saved(model, folder):
        # The description, and the weights unless the recipe has another start.
        path = model_path(result.pop("model"), folder)
        if start is None:
            result["start"] = {"model": str(path)}
        else:
            result["model"] = read_description(path)
    elif model is not None:
        result["model"] = find_description(model, folder)[0]
    if "objective" in result:
        result["objective"] = _expand_terms(result["objective"], folder)
    if isinstance(result.get("stages"), list | tuple):
        result["stages"] = [
            {**stage, "objective": _expand_terms(stage["objective"], folder)}
            if isinstance(stage, Mapping) and "objective" in stage
            else stage
            for stage in result["stages"]
        ]
    return result


def _is_saved(model: Any, folder: Path) -> bool:
    """Whether the `model` of a recipe is the path of a run or of a saved model."""
    if not isinstance(model, str | os.PathLike) or str(model) in PRESETS:
        return False
    with contextlib.suppress(ArtifactError, OSError):
        return find(model_path(model, folder)).is_dir()
    return False


def _expand_terms(written: Any, folder: Path) -> Any:
    """Expands weights to mappings, and makes paths absolute."""
    if not isinstance(written, Mapping):
        return written
    terms = {
        name: {"weight": given} if isinstance(given, int | float) else given or {} for name, given in written.items()
    }
    return {
        name: with_absolute_paths(TERMS.get(name), given, folder)
        if name in TERMS and isinstance(given, Mapping)
        else given
        for name, given in terms.items()
    }


def write_recipe(recipe: Recipe | PriorRecipe) -> str:
    """The recipe as YAML with all options."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def with_default_likelihood(recipe: Recipe, split: ImageSet, notes: list[str]) -> Recipe:
    """Replaces the Bernoulli likelihood of a preset for color images and signals, unless the recipe states one.

    The Bernoulli likelihood suits values near 0 or 1, unlike those of photographs and signals.

    Args:
        recipe: recipe of a new run.
        split: training images.
        notes: messages for the user, to which the choice is added.
    """
    model = recipe.model
    is_open = "preset" in model and "likelihood" not in model and recipe.start is None
    is_signal = len(split.shape) == 2
    if not is_open or (split.shape[0] == 1 and not is_signal) or resolve(model).likelihood != "bernoulli":
        return recipe
    notes.append(
        f"{'signals' if is_signal else 'color images'}: using a gaussian likelihood with learned sigma instead of "
        "bernoulli. Set --likelihood (model.likelihood) to change it"
    )
    likelihood = {"gaussian": {"sigma": "learned"}}
    return recipe.model_copy(update={"model": {**model, "likelihood": likelihood}})


def with_default_length(recipe: Recipe, steps_per_epoch: int, notes: list[str]) -> Recipe:
    """Adds the default length to a recipe without one; see `default_length`.

    Args:
        recipe: recipe of a new run.
        steps_per_epoch: batches per epoch.
        notes: messages for the user, to which a length of more than 10 epochs is added.
    """
    if recipe.stages:
        return recipe
    training = default_length(recipe.training, steps_per_epoch)
    if training is not recipe.training and (training.epochs or 0) > DEFAULT_EPOCHS:
        notes.append(
            f"small data set: training {training.epochs:,} epochs, for at least {MIN_STEPS:,} steps. Set --epochs or "
            "--steps to change it"
        )
    return recipe.model_copy(update={"training": training})


def parse_prior_recipe(written: Mapping[str, Any], overrides: Sequence[str], where: str) -> PriorRecipe:
    """Validates the recipe of a prior.

    Args:
        written: the recipe as a mapping.
        overrides: `key.path=value` each.
        where: source of the recipe, for messages.

    Raises:
        ConfigError: the recipe is invalid; the message lists all errors with their paths, and the nearest valid names.
    """
    return parse(PriorRecipe, override(written, overrides, _PRIOR_FIELDS, _NAMED_OF_PRIORS), where)


def is_prior_recipe(path: Path) -> bool:
    """Whether a recipe file is that of a prior."""
    return path.is_file() and "prior" in read_mapping(path)
