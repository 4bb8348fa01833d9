"""`convae pull`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convae.cli._options import Force

PANEL = "Share"
"""The heading under which the help lists the command."""


def pull(
    source: Annotated[
        str,
        typer.Argument(
            help="The name of a pretrained model, hf:OWNER/NAME@REVISION, the URL or path of an archive of "
            "convae push, or a folder.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for the model.", show_default="the cache, or the name in this folder"),
    ] = None,
    sha256: Annotated[
        str | None, typer.Option("--sha256", help="SHA-256 of the archive; required for a URL.", show_default=False)
    ] = None,
    origin: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Where the pretrained models are: a folder, a URL or hf:OWNER/NAME@REVISION.",
            show_default="$CONVAE_MODELS, else the URL of the project",
        ),
    ] = None,
    force: Force = False,
) -> None:
    """Get a pretrained model, or one that `convae push` published, from the Hugging Face Hub, a web server or a folder.

    Sizes and digests are checked, and the model appears only when it is complete; the same command resumes a partial
    download. Every command takes the name of a pretrained model that was pulled. Other models record the commit, or the
    URL and the SHA-256. Private models of the Hub need a token: set $HF_TOKEN, or run `hf auth login`.

    Example: `convae pull digits/conditional`

    `convae pull hf:me/fashion-vae --out model`
    """
    from convae.cli._screen import notes, work_bar, wrote
    from convae.interop import pull_model

    with work_bar() as bar:
        pulled = pull_model(source, out, sha256=sha256, origin=origin, force=force, progress=bar)
    if pulled.source is not None:
        notes.print(pulled.source, soft_wrap=True)
    wrote(pulled.path)
