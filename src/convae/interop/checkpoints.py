"""A model from the weights of another project."""

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
from convae.model.weights import read_weights, sha256_of

DEFAULT = "diffusers"
"""The importer of weights whose project is not named."""


def import_model(
    path: Path,
    importer: str = DEFAULT,
    key: str | None = None,
    size: Shape | None = None,
    *,
    progress: Progress | None = None,
) -> VAE:
    """A model, in evaluation mode, with the weights that another project saved; nothing in the file is run.

    Its provenance names the file, its SHA-256 and the importer, and notes what was left out.

    Args:
        path: weights, as `.pt`, `.pth` or `.safetensors`; a folder with `config.json` and weights; or a model on the
            Hugging Face Hub, `hf:OWNER/NAME` or `hf:OWNER/NAME@REVISION`, which is downloaded to the cache.
        importer: which project wrote them, such as `diffusers`.
        key: where the weights are in a checkpoint of several models; dots lead deeper.
        progress: called during a download.
        size: sizes of the images, of networks that accept several; by default those that the weights were trained for.

    Raises:
        ArtifactError: the file is missing or damaged, needs code to be read, or holds the weights of another model.
        ConfigError: there is no such importer, the file holds several models and `key` names none of them, or the
            configuration describes no network that convae knows.
    """
    read = IMPORTERS.get(importer)
    options = inspect.signature(read).parameters
    if size is not None and "size" not in options:
        raise ConfigError(f"{importer}: the weights decide the size of the images. Leave size out")
    takes_config = "config" in options
    source = None
    if is_on_hub(path):
        path, source = download_model(str(path), progress)
    if path.is_dir() and not takes_config:
        raise ArtifactError(f"{path}: is a folder. Give the file of weights of {importer}")
    files = find_published(path) if takes_config else PublishedFiles(path, None)
    if takes_config and files.weights.suffix != ".safetensors":
        raise ArtifactError(f"{files.weights}: weights of {importer} are read from .safetensors files only")
    given: dict[str, Any] = {"config": files.config, "size": size} if takes_config else {}
    state, notes = read_weights(files.weights, key)
    try:
        imported: ImportedModel = read(state, **given)
    except (ArtifactError, ConfigError) as error:
        raise type(error)(f"{path}: {error}") from error
    model = imported.model
    named = path.stem if source is None else source.partition("@")[0].rpartition("/")[2]
    model.name = escape_controls(named) or model.name
    facts = ImportFacts(
        file=escape_controls(files.weights.name),
        importer=importer,
        notes=(*notes, *imported.notes),
        sha256=sha256_of(files.weights),
        source=source,
    )
    model.provenance = model.provenance.model_copy(update={"imported": facts})
    return model
