"""`convae import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convae.cli._options import Force

PANEL = "Share"
"""The heading under which the help lists the command."""


def import_(
    file: Annotated[Path, typer.Argument(help="A file of weights: .pth, .pt or .safetensors.", show_default=False)],
    form: Annotated[str, typer.Option("--as", help="What wrote it: torch-vae or image-vae.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for the model.", show_default=False)],
    key: Annotated[
        str | None, typer.Option(help="Where the weights are in a checkpoint of several models.", show_default=False)
    ] = None,
    force: Force = False,
) -> None:
    """Turn published weights of another project into a model; nothing in the file is run.

    Example: `convae import weights.pth --as torch-vae --out model`
    """
    from convae.cli._screen import notes, wrote
    from convae.core.errors import ArtifactError, OutputError
    from convae.core.names import printable, shape_text
    from convae.interop import IMPORTERS
    from convae.model.artifact import save
    from convae.model.provenance import ImportFacts, Provenance
    from convae.model.weights import read_weights

    importer = IMPORTERS.get(form)
    if out.exists() and not force:
        raise OutputError(f"{out}: is there already; give another --out, or --force to overwrite")
    state, found = read_weights(file, key)
    try:
        imported = importer(state)
    except ArtifactError as error:
        raise ArtifactError(f"{file}: {error}") from error
    model = imported.model
    found_notes = [*found, *imported.notes]
    model.name = printable(file.stem) or model.name
    model.provenance = Provenance(
        imported=ImportFacts(file=printable(file.name), importer=form, notes=tuple(found_notes))
    )
    save(model, out)
    for note in found_notes:
        notes.print(note)
    notes.print(f"{model.name}: input {shape_text(model.input_shape)}, latent {shape_text(model.latent_shape)}")
    wrote(out)
