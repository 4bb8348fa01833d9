"""`convae push`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convae.cli._options import Force, Model

PANEL = "Share"
"""The heading under which the help lists the command."""


def push(
    model: Model,
    target: Annotated[
        str, typer.Argument(help="hf:OWNER/NAME, hf:OWNER/NAME@BRANCH, or an archive: NAME.zip.", show_default=False)
    ],
    card: Annotated[
        Path | None,
        typer.Option(
            "--card", help="Folder that convae card wrote: its metrics as the model card.", show_default=False
        ),
    ] = None,
    message: Annotated[str, typer.Option(help="Message of the commit.")] = "Add a model",
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    force: Force = False,
) -> None:
    """Publish a model with its card on the Hugging Face Hub as one commit, or as an archive for any web server.

    The size and digest of each file are compared after the upload. The Hub needs the extra `hugging-face`, and a token:
    set $HF_TOKEN, or run `hf auth login`. The printed name with its commit, or the SHA-256 of the archive, always
    refers to these files; `convae pull` takes it.

    Example: `convae push RUN hf:me/fashion-vae`
    """
    from convae.cli._screen import results
    from convae.interop import push_model

    pushed = push_model(model, target, card=card, private=private, message=message, force=force)
    results.print(
        pushed.target if pushed.sha256 is None else f"{pushed.target}: SHA-256 {pushed.sha256}", soft_wrap=True
    )
