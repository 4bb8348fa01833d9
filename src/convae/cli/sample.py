"""`convae sample`."""

from __future__ import annotations

from typing import Annotated

import typer

from convae.cli._options import Device, Force, Model, Out, Seed


def sample(
    model: Model,
    out: Out,
    count: Annotated[int, typer.Option(min=1, help="How many images.")] = 64,
    seed: Seed = 0,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Draw images from the prior: one PNG each, and one sheet of all."""
    from convae.cli._models import new_files, open_model
    from convae.cli._screen import wrote
    from convae.core.random import torch_generator
    from convae.data import to_pil
    from convae.pictures.grid import grid
    from convae.pictures.save import save

    digits = len(str(count - 1))
    paths = new_files(out, ["samples.png", *(f"{number:0{digits}}.png" for number in range(count))], force)
    loaded = open_model(model, device)
    images = loaded.sample(count, torch_generator(seed, "sample")).cpu()
    save(grid(images, title=f"{loaded.name}: samples from the prior, seed {seed}"), paths[0])
    for image, path in zip(images, paths[1:], strict=True):
        save(to_pil(image), path)
    wrote(paths[0])
