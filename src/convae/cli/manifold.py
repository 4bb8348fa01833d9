"""`convae manifold`."""

from __future__ import annotations

from typing import Annotated

import typer

from convae.cli._options import DataOptions, Label, Model, OutputOptions, open_session, with_option_groups

PANEL = "Look"
"""The heading under which the help lists the command."""


@with_option_groups
def manifold(
    model: Model,
    output: OutputOptions,
    data: DataOptions,
    steps: Annotated[int, typer.Option(min=2, help="Images per side.")] = 15,
    axes: Annotated[
        str | None, typer.Option(help="Two latent dimensions, such as 0,3; otherwise the principal directions.")
    ] = None,
    label: Label = None,
) -> None:
    """Decode a grid of latents on a plane of the latent space, or on a line for one-dimensional latents.

    Example: `convae manifold RUN --out pictures`
    """
    from convae.cli._files import new_files
    from convae.cli._parsing import comma_separated
    from convae.cli._screen import work_bar, wrote
    from convae.core.errors import ConfigError
    from convae.latents import build_latent_grid
    from convae.pictures.grid import grid
    from convae.pictures.save import save

    chosen = None if axes is None else tuple(comma_separated(axes, "--axes", int))
    if chosen is not None and len(chosen) != 2:
        raise ConfigError(f"--axes: needs two latent dimensions, such as 0,3, not '{axes}'")
    (sheet,) = new_files(output.out, ["manifold.png"], output.force)
    with work_bar() as bar:
        session = open_session(model, data, bar, label=label)
        session.require_label()
        encoding = session.encode()
    images = session.decode(build_latent_grid(encoding, steps, chosen).flatten(0, 1), nearest=True)
    size = encoding.mean[0].numel()
    if chosen is None and size == 2:
        chosen = (0, 1)
    what = "principal directions" if chosen is None else f"z{chosen[0]} (across) and z{chosen[1]} (up)"
    what = "z0" if size == 1 else what
    title = f"{session.model.name}: {what}, 2% to 98% quantiles{session.label_text}"
    save(grid(images, columns=steps, title=title), sheet)
    wrote(sheet, output.show)
