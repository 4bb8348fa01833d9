"""Import of a model from the weights of another project."""

from __future__ import annotations

from pathlib import Path

from convae.core.errors import ArtifactError
from convae.core.names import escape_controls
from convae.interop.importers import IMPORTERS
from convae.model.provenance import ImportFacts, Provenance
from convae.model.vae import VAE
from convae.model.weights import read_weights, sha256_of


def import_model(file: Path, importer: str, key: str | None = None) -> VAE:
    """Imports a checkpoint of another project, without running code in it; returns the model in evaluation mode.

    The provenance of the model records the file, its SHA-256, the importer, and notes such as tensors that were not
    loaded.

    Args:
        file: weights in a `.pt`, `.pth` or `.safetensors` file.
        importer: name of the importer, such as `torch-vae`.
        key: key of the weights in a checkpoint with several models, with dots between nested keys.

    Raises:
        ArtifactError: the file is missing or damaged, cannot be read without running code, or contains the weights of
            another architecture.
        ConfigError: unknown importer, or the file contains several models and `key` is none of their keys.
    """
    run_importer = IMPORTERS.get(importer)
    state, notes = read_weights(file, key)
    try:
        imported = run_importer(state)
    except ArtifactError as error:
        raise ArtifactError(f"{file}: {error}") from error
    model: VAE = imported.model
    model.name = escape_controls(file.stem) or model.name
    facts = ImportFacts(
        file=escape_controls(file.name), importer=importer, notes=(*notes, *imported.notes), sha256=sha256_of(file)
    )
    model.provenance = Provenance(imported=facts)
    return model
