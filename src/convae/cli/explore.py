"""`convae explore`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, Literal

import typer

from convae.cli._options import AllDataOptions, Force, Label, Model, open_session, with_option_groups

PANEL = "Look"
"""The heading under which the help lists the command."""


@with_option_groups
def explore(
    model: Model,
    data: AllDataOptions,
    out: Annotated[Path, typer.Option("--out", help="The HTML file.")] = Path("explorer.html"),
    label: Label = None,
    projection: Annotated[
        Literal["none", "tsne", "umap"],
        typer.Option(help="A map of the images beside the planes: tsne or umap, which take up to minutes."),
    ] = "none",
    force: Force = False,
    show: Annotated[bool, typer.Option("--open", help="Open the page when it is done.")] = False,
    serve: Annotated[
        bool, typer.Option("--serve", help="Write no file: show the page on this computer, which decodes for it.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of --serve; 0 for a free one.")] = 0,
) -> None:
    """Write the latent space as one HTML page that decodes in the browser.

    The page holds the weights and up to 10,000 encoded images as latents, but no images. It opens from a folder,
    without a server or a network.

    Example: `convae explore RUN --out explorer.html --open`
    """
    from convae.cli._screen import results, work_bar, wrote
    from convae.core.files import require_free
    from convae.explorer import ExplorerServer, write_page

    chosen = None if projection == "none" else projection
    if serve:
        with work_bar() as bar:
            session = open_session(model, data, bar, default_split="all", label=label)
            server = ExplorerServer(session, port=port, projection=chosen)
        with server:
            results.print(f"{server.url} until you press Ctrl+C", soft_wrap=True)
            if show:
                typer.launch(server.url)
            with contextlib.suppress(KeyboardInterrupt):
                server.serve_forever()
        return
    require_free(out, force=force)
    with work_bar() as bar:
        session = open_session(model, data, bar, default_split="all", label=label)
        write_page(session, out, projection=chosen)
    results.print(f"{out.name}: {out.stat().st_size / 1e6:.2f} MB", soft_wrap=True)
    wrote(out, show)
