"""`convae interpolate`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from convae.cli._options import Data, DataDir, Device, Force, Images, Model, Out, Show, SplitOption


def interpolate(
    model: Model,
    images: Images,
    out: Out,
    steps: Annotated[int, typer.Option(min=2, help="Images from each to the next, both counted.")] = 9,
    mode: Annotated[
        Literal["lerp", "slerp"], typer.Option(help="The straight line, or along the great circle.")
    ] = "lerp",
    data: Data = None,
    data_dir: DataDir = None,
    split: SplitOption = "test",
    device: Device = "auto",
    force: Force = False,
    show: Show = False,
) -> None:
    """Go from one image through others to the last: a strip for each leg, and an animation of all."""
    from itertools import pairwise

    import torch

    from convae.cli._latents import named_images
    from convae.cli._models import new_files, open_images, open_model
    from convae.cli._screen import work_bar, wrote
    from convae.latents import decode, path
    from convae.latents import interpolate as between
    from convae.pictures.animation import animate
    from convae.pictures.grid import grid
    from convae.pictures.save import save

    still, moving = new_files(out, ["interpolation.png", "interpolation.webp"], force)
    loaded = open_model(model, device)
    with work_bar() as bar:
        ends = named_images(loaded, images, lambda: open_images(loaded, data, data_dir, split, bar))
    with torch.no_grad():
        points = loaded.encode(ends.to(next(loaded.parameters()).device)).mean.cpu()
    way = path(points, steps, mode=mode)
    legs = between(points[:-1], points[1:], steps, mode=mode)
    names = [word.rpartition("/")[2] for word in images]
    labels = [f"{start} → {end}" for start, end in pairwise(names)]
    rows = grid(decode(loaded, legs.flatten(0, 1)), row_labels=labels, title=f"{loaded.name}: {mode}")
    save(rows, still)
    animate(decode(loaded, way), moving)
    wrote(still)
    wrote(moving, show)
