"""`convae sample`."""

from __future__ import annotations

from typing import Annotated

import typer

from convae.cli._options import Device, Force, Model, Out, Seed, Show


def sample(
    model: Model,
    out: Out,
    count: Annotated[int, typer.Option(min=1, help="How many images.")] = 64,
    seed: Seed = 0,
    temperature: Annotated[float, typer.Option(min=0, help="Factor of the prior's standard deviation.")] = 1.0,
    truncation: Annotated[
        float | None, typer.Option(help="Draw latent values beyond this many standard deviations again.")
    ] = None,
    device: Device = "auto",
    force: Force = False,
    show: Show = False,
) -> None:
    """Draw images from the prior: one file each, and one sheet of all."""
    from convae.cli._latents import image_paths, write_image
    from convae.cli._models import new_files, open_model
    from convae.cli._screen import wrote
    from convae.latents import decode, draw
    from convae.pictures.grid import grid
    from convae.pictures.save import save

    loaded = open_model(model, device)
    digits = len(str(count - 1))
    names = [f"{number:0{digits}}" for number in range(count)]
    paths = image_paths(out, names, two_axes=len(loaded.input_shape) == 3)
    sheet, *_ = new_files(out, ["samples.png", *(path.name for path in paths)], force)
    z = draw(loaded, count, seed=seed, temperature=temperature, truncation=truncation)
    images = decode(loaded, z)
    for image, path in zip(images, paths, strict=True):
        write_image(image, path)
    how = "" if temperature == 1 else f", temperature {temperature:g}"
    how += "" if truncation is None else f", truncation {truncation:g}"
    save(grid(images, title=f"{loaded.name}: samples from the prior, seed {seed}{how}"), sheet)
    wrote(sheet, show)
