"""A model from a file of weights of another project."""

from __future__ import annotations

from pathlib import Path

from convae.core.errors import ArtifactError
from convae.core.names import escape_controls
from convae.interop.importers import IMPORTERS
from convae.model.provenance import ImportFacts, Provenance
from convae.model.vae import VAE
from convae.model.weights import read_weights, sha256_of


def import_model(file: Path, importer: str, key: str | None = None) -> VAE:
    """A model, in evaluation mode, with the weights that another project saved; nothing in the file is run.

    Its provenance names the file, its SHA-256 and the importer, and notes what was left out.

    Args:
        file: weights, as `.pt`, `.pth` or `.safetensors`.
        importer: which project wrote them, such as `torch-vae`.
        key: where the weights are in a checkpoint of several models; dots lead deeper.

    Raises:
        ArtifactError: the file is missing or damaged, needs code to be read, or holds the weights of another model.
        ConfigError: there is no such importer, or the file holds several models and `key` names none of them.
    """
    read = IMPORTERS.get(importer)
    state, notes = read_weights(file, key)
    try:
        imported = read(state)
    except ArtifactError as error:
        raise ArtifactError(f"{file}: {error}") from error
    model: VAE = imported.model
    model.name = escape_controls(file.stem) or model.name
    facts = ImportFacts(
        file=escape_controls(file.name), importer=importer, notes=(*notes, *imported.notes), sha256=sha256_of(file)
    )
    model.provenance = Provenance(imported=facts)
    return model
