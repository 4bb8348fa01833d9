"""Import of models with weights of another project."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from convae.core.errors import ArtifactError, ConfigError
from convae.core.names import escape_controls
from convae.core.progress import Progress
from convae.core.types import Shape
from convae.interop.base import ImportedModel
from convae.interop.hub import download_model, is_on_hub
from convae.interop.importers import IMPORTERS
from convae.interop.published import PublishedFiles, find_published
from convae.model.provenance import ImportFacts
from convae.model.vae import VAE

DEFAULT = "diffusers"
"""Default importer."""


def import_model(
    path: str | Path,
    importer: str = DEFAULT,
    key: str | None = None,
    size: Shape | None = None,
    *,
    progress: Progress | None = None,
) -> VAE:
    """Imports a model of another project, without running code in its files; returns it in evaluation mode.

    The provenance of the model records the file, its SHA-256, the importer, and notes such as tensors that were not
    loaded.

    Args:
        path: weights in a `.pt`, `.pth` or `.safetensors` file; a folder with `config.json` and weights in one file or
            several with an index; or a model on the Hugging Face Hub, `hf:OWNER/NAME` or `hf:OWNER/NAME@REVISION`,
            which is downloaded to the cache.
        importer: name of the importer, such as `diffusers` or `torch-vae`.
        key: key of the weights in a checkpoint with several models, with dots between nested keys.
        size: image sizes, for networks that support several; by default those of the published configuration.
        progress: called with the progress of a download.

    Raises:
        ArtifactError: the file is missing or damaged, cannot be read without running code, or contains the weights of
            another architecture.
        ConfigError: unknown importer, invalid configuration, or the file contains several models and `key` is none of
            their keys.
        DataError: the Hub cannot be reached, or downloads are disabled.
    """
    run_importer = IMPORTERS.get(importer)
    options = inspect.signature(run_importer).parameters
    if size is not None and "size" not in options:
        raise ConfigError(f"importer {importer}: the weights determine the image size. Remove size")
    takes_config = "config" in options
    source, path = None, Path(path)
    if is_on_hub(path):
        path, source = download_model(str(path), progress)
    files = _find_files(path, importer, takes_config)
    given: dict[str, Any] = {"config": files.config, "size": size} if takes_config else {}
    state, notes = files.read(key)
    try:
        imported: ImportedModel = run_importer(state, **given)
    except (ArtifactError, ConfigError) as error:
        raise type(error)(f"{path}: {error}") from error
    model = imported.model
    named = path.stem if source is None else source.partition("@")[0].rpartition("/")[2]
    model.name = escape_controls(named) or model.name
    facts = ImportFacts(
        file=escape_controls(files.weights.name),
        importer=importer,
        notes=(*notes, *imported.notes),
        sha256=files.sha256(),
        source=source,
    )
    model.provenance = model.provenance.model_copy(update={"imported": facts})
    return model


def _find_files(path: Path, importer: str, takes_config: bool) -> PublishedFiles:
    """The files of a model for an importer, which takes a folder with a configuration or a file of weights.

    Raises:
        ArtifactError: they are missing, or of another kind.
    """
    if not path.exists():
        raise ArtifactError(f"{path}: no such file or folder")
    if not takes_config:
        if path.is_dir():
            raise ArtifactError(f"{path} is a folder. Pass a weights file of {importer}")
        return PublishedFiles(path, None)
    files = find_published(path)
    if files.weights.suffix != ".safetensors" and not files.is_sharded:
        raise ArtifactError(f"{files.weights}: importer {importer} reads .safetensors files only")
    return files
