"""The trained models from which recipes start, and the data that they were trained on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from convae.core.config import override, parse
from convae.core.errors import ConfigError
from convae.core.names import unknown_message
from convae.core.paths import local_path
from convae.core.trust import untrusted_names
from convae.data.provenance import is_same_source, like_training_data, recorded_data_dir, require_permission
from convae.data.sources import GIVEN
from convae.interop import IMPORTERS, import_model
from convae.model.artifact import find, find_run, load, read_description
from convae.model.pretrained import model_path
from convae.model.vae import VAE
from convae.training.recipe.schema import StartConfig

WEIGHT_FILES = {".pt", ".pth", ".safetensors"}
"""Suffixes of weights files."""


def describe_start_model(start: Any, where: str) -> dict[str, Any]:
    """The description of the model from which training starts."""
    path = start.get("model") if isinstance(start, Mapping) else None
    if not isinstance(path, str):
        raise ConfigError(f"{where}: start.model: expected the path of a run or of a saved model")
    if start.get("importer") is not None:
        config = parse(StartConfig, start, f"{where}: start")
        return import_start_model(config).spec.model_dump(mode="json")
    return read_description(find_start_model(path, start.get("which", "best")))


def import_start_model(config: StartConfig) -> VAE:
    """Imports the model from which training starts from the weights of another project.

    Raises:
        ArtifactError: the file cannot be read, or contains the weights of another architecture.
        ConfigError: unknown importer, or the file contains several models.
    """
    assert config.importer is not None
    if config.importer not in IMPORTERS:
        raise ConfigError(f"start.importer: {unknown_message('importer', config.importer, IMPORTERS.names())}")
    return import_model(local_path(config.model), config.importer, config.key)


def start_from_copy(config: StartConfig, folder: Path) -> StartConfig:
    """The options of a start from the copy in `folder` of the model that they name."""
    return config.model_copy(update={"model": folder, "which": "best", "importer": None, "key": None})


def find_start_model(model: str | os.PathLike[str], which: str) -> Path:
    """Finds the folder of the saved model from which training starts.

    Args:
        model: path of a run or of a saved model, or the name of a pretrained model.
        which: `best` or `last` model of a run.

    Raises:
        ArtifactError: there is no saved model.
        ConfigError: it is a weights file, which needs an importer.
    """
    path = model_path(model)
    if path.suffix in WEIGHT_FILES and path.is_file():
        raise ConfigError(
            f"start.model: {path} is a weights file. Set start.importer (--as on the command line) to the project that "
            f"wrote it: {', '.join(IMPORTERS.names())}"
        )
    return find(path / "last") if which == "last" else find(path)


def data_of_model(model: VAE, run: Path | None) -> dict[str, Any]:
    """The data configuration of a model's training, as a mapping.

    Args:
        model: the model.
        run: its run folder, whose paths are trusted; None for an artifact from elsewhere.

    Raises:
        ConfigError: the model does not record its training data, or an artifact may not open it.
    """
    trained = dict(model.provenance.data)
    if "source" not in trained:
        raise ConfigError("the model does not record its training data. Set data.source (--data)")
    if run is None:
        return require_permission(trained)
    folder = recorded_data_dir(run)
    return trained if folder is None else {**trained, "dir": str(folder)}


def open_trained_model(model: VAE | str | os.PathLike[str]) -> tuple[VAE, Path | None]:
    """A trained model, and its run folder; None of an artifact or a model without one.

    Raises:
        ArtifactError: there is no saved model.
        ConfigError: it is a weights file, which needs an importer.
    """
    if isinstance(model, VAE):
        return model, None
    path = find_start_model(model, "best")
    with untrusted_names():
        opened = load(path)
    return opened, find_run(path)


def choose_data(
    model: VAE, run: Path | None, overrides: Sequence[str], *, has_objects: bool
) -> tuple[dict[str, Any], list[str]]:
    """The data of a recipe that starts from a trained model, and the overrides without their source.

    That of its training, unless there is other, which is read as that of the training was.

    Args:
        model: the model.
        run: its run folder; None of an artifact from elsewhere.
        overrides: `key.path=value` each, which may name other data.
        has_objects: whether the images are passed as objects.

    Raises:
        ConfigError: the model does not record its training data, or an artifact may not open it.
    """
    sources = [each for each in overrides if each.startswith("data.source=")]
    others = [each for each in overrides if each not in sources]
    if not (sources or has_objects):
        return data_of_model(model, run), others
    trained = dict(model.provenance.data)
    source = {GIVEN: None} if has_objects else override({}, sources)["data"]["source"]
    if "source" in trained and is_same_source(source, trained["source"]):
        return {**trained, "source": source}, others
    data, _ = like_training_data({**trained, "size": None, "channels": None}, source)
    if has_objects:
        del data["source"]  # which is recorded from the objects
    return data, others
