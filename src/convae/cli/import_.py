"""`convae import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convae.cli._options import Force

PANEL = "Share"
"""The heading under which the help lists the command."""


def import_(
    path: Annotated[
        Path,
        typer.Argument(
            help="Weights (.safetensors, .pth, .pt), a folder with config.json and weights, or hf:OWNER/NAME.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the model.", show_default=False)],
    importer: Annotated[str, typer.Option("--as", help="What wrote it: diffusers, torch-vae or image-vae.")] = (
        "diffusers"
    ),
    key: Annotated[
        str | None, typer.Option(help="Where the weights are in a checkpoint of several models.", show_default=False)
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(min=1, help="Sides of the images; by default as published.", show_default=False),
    ] = None,
    force: Force = False,
) -> None:
    """Turn published weights of another project into a model; nothing in the file is run.

    Of diffusers, AutoencoderKL (Stable Diffusion, SDXL, FLUX), AutoencoderKLFlux2, AutoencoderTiny (TAESD),
    AutoencoderDC (DC-AE) and VQModel are read; of the first and the last also single files with the names of latent
    diffusion. `hf:OWNER/NAME@REVISION` is downloaded from the Hugging Face Hub and checked by its digests.

    Example: `convae import stable-diffusion/vae --size 64 --out model`
    """
    from convae.cli._screen import notes, work_bar, wrote
    from convae.core.files import require_free
    from convae.core.names import shape_text
    from convae.interop import import_model
    from convae.model.artifact import save

    require_free(out, force=force)
    with work_bar() as bar:
        model = import_model(path, importer, key, None if size is None else (size, size), progress=bar)
    save(model, out)
    assert model.provenance.imported is not None
    for note in model.provenance.imported.notes:
        notes.print(note)
    notes.print(f"{model.name}: input {shape_text(model.input_shape)}, latent {shape_text(model.latent_shape)}")
    wrote(out)
