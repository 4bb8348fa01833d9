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
    importer: Annotated[str, typer.Option("--as", help="What wrote it: torch-vae or image-vae.", show_default=False)],
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
    from convae.core.errors import OutputError
    from convae.core.names import shape_text
    from convae.interop import import_model
    from convae.model.artifact import save

    if out.exists() and not force:
        raise OutputError(f"{out}: already exists. Choose another --out, or use --force to replace it")
    model = import_model(file, importer, key)
    save(model, out)
    assert model.provenance.imported is not None
    for note in model.provenance.imported.notes:
        notes.print(note)
    notes.print(f"{model.name}: input {shape_text(model.input_shape)}, latent {shape_text(model.latent_shape)}")
    wrote(out)
