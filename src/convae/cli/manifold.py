"""`convae manifold`."""

from __future__ import annotations

from typing import Annotated

import typer

from convae.cli._options import Data, DataDir, Device, Force, Label, Model, Out, Show, SplitOption

PANEL = "Look"
"""Under which heading the help lists the command."""


def manifold(
    model: Model,
    out: Out,
    steps: Annotated[int, typer.Option(min=2, help="Images on each side.")] = 15,
    axes: Annotated[
        str | None, typer.Option(help="Two latent values, such as 0,3; otherwise the principal directions.")
    ] = None,
    label: Label = None,
    data: Data = None,
    data_dir: DataDir = None,
    split: SplitOption = None,
    device: Device = "auto",
    force: Force = False,
    show: Show = False,
) -> None:
    """Draw what a plane of the latent space decodes to; of a latent of one value, a line.

    Example: `convae manifold RUN --out pictures`
    """
    import torch

    from convae.cli._classes import drawn_as, needed_class
    from convae.cli._latents import numbers
    from convae.cli._models import new_files, open_images, open_model
    from convae.cli._screen import work_bar, wrote
    from convae.core.errors import ConfigError
    from convae.latents import decode, encode
    from convae.latents import manifold as plane
    from convae.pictures.grid import grid
    from convae.pictures.save import save

    chosen = None if axes is None else tuple(numbers(axes, "--axes", int))
    if chosen is not None and len(chosen) != 2:
        raise ConfigError(f"--axes: two latent values, such as 0,3, not '{axes}'")
    (sheet,) = new_files(out, ["manifold.png"], force)
    loaded = open_model(model, device)
    wanted = needed_class(loaded, label)
    with work_bar() as bar:
        encoding = encode(loaded, open_images(loaded, data, data_dir, split, bar, label=wanted), progress=bar)
    points = plane(encoding, steps, chosen).flatten(0, 1)
    kinds = None if wanted is None else torch.full((len(points),), wanted)
    images = decode(loaded, points, labels=kinds)
    one = encoding.mean[0].numel() == 1
    if chosen is None and encoding.mean[0].numel() == 2:
        chosen = (0, 1)
    what = "principal directions" if chosen is None else f"latent values z{chosen[0]} (across) and z{chosen[1]} (up)"
    what = "latent value z0" if one else what
    title = f"{loaded.name}: {what}, 2% to 98% quantiles{drawn_as(loaded, wanted)}"
    save(grid(images, columns=steps, title=title), sheet)
    wrote(sheet, show)
