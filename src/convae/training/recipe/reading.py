"""Reading a recipe: short forms, paths, overrides, and the recipes that are installed with convae."""

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
from convae.core.names import nearest_name, unknown_message
from convae.core.paths import absolute_path, local_path, with_absolute_paths
from convae.data import SOURCES, absolute_data
from convae.data.batches import ImageSet
from convae.describe import find_description, resolve
from convae.interop import IMPORTERS, import_model
from convae.model.artifact import find, read_description
from convae.model.presets import PRESETS
from convae.model.vae import VAE
from convae.objective.terms import TERMS
from convae.training.recipe.objectives import described_objective
from convae.training.recipe.plan import EPOCHS, LEAST_STEPS
from convae.training.recipe.schema import PriorRecipe, Recipe, StartConfig

PACKAGED = Path(__file__).parents[2] / "recipes"
"""The folder of the recipes that are installed with convae."""
WEIGHT_FILES = {".pt", ".pth", ".safetensors"}
"""Endings of files of weights."""
_FIELDS = {part for path in Recipe.paths() for part in path.split(".")} | set(Spec.model_fields)
"""Every key of a recipe and of a description of a model."""
_NAMED = {"objective", "source", "encoder", "bottleneck", "decoder", "layers", "likelihood", "prior", "classifier"}
"""Keys below which the keys are names of classes; a package of such a class may be called like a key of a recipe."""
_PRIOR_FIELDS = {part for path in PriorRecipe.paths() for part in path.split(".")}
"""Every key of the recipe of a prior."""
_NAMED_OF_PRIORS = {"prior", "source"}
"""As `_NAMED`, of the recipe of a prior."""
_DESCRIBES = {"preset", "encoder", "encode", "decode", "modules"}
"""Keys of which a whole description of a model has at least one."""


def packaged_recipes() -> dict[str, Path]:
    """The YAML file of each packaged recipe, by its name."""
    return {path.stem: path for path in sorted(PACKAGED.glob("*.yaml"))}


def recipe_summary(path: Path) -> str:
    """What a recipe trains: the first line of the comment that it begins with."""
    with path.open(encoding="utf-8") as file:
        return file.readline().removeprefix("#").strip().rstrip(".")


def read_recipe(source: Recipe | Mapping[str, Any] | str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """A checked recipe.

    Args:
        source: a recipe, a mapping, the path of a YAML or JSON file, or the name of a recipe that comes with convae.
        overrides: `key.path=value` each.

    Raises:
        ConfigError: every fault in one message, each with its path and the nearest valid name.
    """
    if isinstance(source, Recipe):
        source = source.model_dump(mode="json")
    if isinstance(source, Mapping):
        return _read(source, overrides, "recipe")
    path = local_path(source)
    folder = path.parent
    if not path.exists():
        if str(path) not in packaged_recipes():
            raise ConfigError(f"{path}: no such recipe{_hint(path)}")
        # What a packaged recipe names lies where the program runs, not where convae is installed.
        path, folder = packaged_recipes()[str(path)], Path()
    read = {"encode": None} if path.suffix == ".py" else read_mapping(path)
    if "model" not in read and {"preset", "encoder", "encode"} & set(read):
        raise ConfigError(f"{path}: describes a model, no training: convae train --data DATA model={path}")
    return _read(read, overrides, str(path), folder)


def _hint(path: Path) -> str:
    """What the name of a missing recipe may have meant, as the end of a sentence."""
    if str(path) in PRESETS:
        return f": a preset is trained by --preset {path}"
    if str(path) in SOURCES:
        return f": a data set is trained on by --data {path}"
    if path.stem in packaged_recipes():
        return f": convae brings one of this name, convae train {path.stem}"
    if (match := nearest_name(str(path), SOURCES.names(), cutoff=0.8)) is not None:
        return f": did you mean --data {match}?"
    if not path.suffix and path.parent == Path() and (match := nearest_name(str(path), packaged_recipes())) is not None:
        return f": did you mean '{match}'? (convae recipes lists those that come with convae)"
    return ""


def _read(source: Mapping[str, Any], overrides: Sequence[str], where: str, folder: Path = Path()) -> Recipe:
    """The recipe in a mapping; overrides may be written in short forms, too.

    Paths in the mapping are relative to `folder`, those in overrides to the working directory.
    """
    written = _written_out(source, folder)
    starts = "start" in written or any(re.match(r"start\b", assignment) for assignment in overrides)
    if "model" not in written and not starts:
        written["model"] = find_description("torch-vae")[0]
    result = _overridden(written, overrides)
    if "model" not in result:
        result["model"] = _started_model(result.get("start"), where)
    elif starts and not _DESCRIBES & set(result["model"]):
        given = ", ".join(f"model.{key}" for key in result["model"])
        raise ConfigError(f"{where}: {given}: start gives the whole model: leave it out, or describe the model in full")
    if "objective" not in written:
        default = described_objective(result["model"], result.get("data"))
        # Overrides of single terms change the default.
        result["objective"] = _overridden({**written, "objective": default}, overrides)["objective"]
    return parse(Recipe, result, where)


def _overridden(written: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A recipe with overrides, written out."""
    return _written_out(override(written, overrides, _FIELDS, _NAMED))


def _started_model(start: Any, where: str) -> dict[str, Any]:
    """The description of the model that training begins with."""
    path = start.get("model") if isinstance(start, Mapping) else None
    if not isinstance(path, str):
        raise ConfigError(f"{where}: start: needs the path of a run or of a saved model")
    if start.get("importer") is not None:
        config = parse(StartConfig, start, f"{where}: start")
        return import_start(config).spec.model_dump(mode="json")
    return read_description(start_path(path, start.get("which", "best")))


def import_start(config: StartConfig) -> VAE:
    """The model that training begins with, from the weights of another project.

    Raises:
        ArtifactError: the file cannot be read, or holds the weights of another model.
        ConfigError: there is no such importer, or the file holds several models.
    """
    assert config.importer is not None
    if config.importer not in IMPORTERS:
        raise ConfigError(f"start.importer: {unknown_message('importer', config.importer, IMPORTERS.names())}")
    return import_model(local_path(config.model), config.importer, config.key)


def start_path(model: str | Path, which: str) -> Path:
    """Where the model that training begins with lies.

    Raises:
        ArtifactError: there is no saved model.
        ConfigError: it is a file of weights, and nothing says which project wrote it.
    """
    path = local_path(model)
    if path.suffix in WEIGHT_FILES and path.is_file():
        raise ConfigError(
            f"start: {path} is a file of weights: say which project wrote it by start.importer (--as on the command "
            f"line): {', '.join(IMPORTERS.names())}"
        )
    return find(path / "last") if which == "last" else find(path)


def _written_out(source: Mapping[str, Any], folder: Path = Path()) -> dict[str, Any]:
    """The short forms of a recipe as mappings, so that an override reaches inside them and loses nothing.

    Paths are made absolute: a recipe that a run stores means the same from every working directory.
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
        # Its description and, unless the recipe says otherwise, its weights.
        path = absolute_path(result.pop("model"), folder)
        if start is None:
            result["start"] = {"model": str(path)}
        else:
            result["model"] = read_description(path)
    elif model is not None:
        result["model"] = find_description(model, folder)[0]
    if "objective" in result:
        result["objective"] = _terms_written_out(result["objective"], folder)
    if isinstance(result.get("stages"), list | tuple):
        result["stages"] = [
            {**stage, "objective": _terms_written_out(stage["objective"], folder)}
            if isinstance(stage, Mapping) and "objective" in stage
            else stage
            for stage in result["stages"]
        ]
    return result


def _is_saved(model: Any, folder: Path) -> bool:
    """Whether what a recipe calls its model is the path of a run or of a saved model."""
    if not isinstance(model, str | os.PathLike) or str(model) in PRESETS:
        return False
    with contextlib.suppress(ArtifactError, OSError):
        return find(absolute_path(model, folder)).is_dir()
    return False


def _terms_written_out(written: Any, folder: Path) -> Any:
    """Terms with their weights under `weight`, and with absolute paths."""
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


def write_recipe(recipe: Recipe) -> str:
    """The recipe as YAML, every option written out."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


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


def parse_prior_recipe(written: Mapping[str, Any], overrides: Sequence[str], where: str) -> PriorRecipe:
    """The checked recipe of a prior.

    Args:
        written: the recipe as a mapping.
        overrides: `key.path=value` each.
        where: for messages.

    Raises:
        ConfigError: every fault in one message, each with its path and the nearest valid name.
    """
    return parse(PriorRecipe, override(written, overrides, _PRIOR_FIELDS, _NAMED_OF_PRIORS), where)


def is_prior_recipe(path: Path) -> bool:
    """Whether the recipe of a run is that of a prior."""
    return path.is_file() and "prior" in read_mapping(path)
