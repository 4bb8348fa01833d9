"""`convae interpolate`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from convae.cli._options import Data, DataDir, Device, Force, Images, Label, Model, Out, Show, SplitOption

PANEL = "Look"
"""Under which heading the help lists the command."""


def interpolate(
    model: Model,
    images: Images,
    out: Out,
    steps: Annotated[int, typer.Option(min=2, help="Images from each to the next, both counted.")] = 9,
    mode: Annotated[
        Literal["lerp", "slerp"], typer.Option(help="The straight line, or along the great circle.")
    ] = "lerp",
    label: Label = None,
    data: Data = None,
    data_dir: DataDir = None,
    split: SplitOption = None,
    device: Device = "auto",
    force: Force = False,
    show: Show = False,
) -> None:
    """Go from one image through others to the last: a strip for each leg, and an animation of all.

    Example: `convae interpolate RUN cat.jpg dog.jpg --out pictures`
    """
    from itertools import pairwise

    import torch

    from convae.cli._classes import wanted_class
    from convae.cli._latents import short_name, start
    from convae.cli._models import new_files, open_images, open_model
    from convae.cli._screen import work_bar, wrote
    from convae.core.errors import ConfigError
    from convae.latents import decode, nearest_latents
    from convae.latents import interpolate as between
    from convae.pictures.animation import animate
    from convae.pictures.grid import grid
    from convae.pictures.save import save

    if len(images) < 2:
        raise ConfigError(f"a way needs at least two images, got {len(images)}")
    still, moving = new_files(out, ["interpolation.png", "interpolation.webp"], force)
    loaded = open_model(model, device)
    wanted = wanted_class(loaded, label)
    with work_bar() as bar:
        ends = start(loaded, images, lambda: open_images(loaded, data, data_dir, split, bar, label=wanted), label)
    legs = between(ends.z[:-1], ends.z[1:], steps, mode=mode)
    # A conditional model draws each leg as the class that it begins with.
    kinds = None if ends.labels is None else ends.labels[:-1].repeat_interleave(steps)
    # What lies between two codes is no latent that a decoder of codes was trained on: it becomes the nearest codes.
    strips = decode(loaded, nearest_latents(loaded, legs.flatten(0, 1)), labels=kinds)
    names = [short_name(word) for word in images]
    rows = [f"{name} → {following}" for name, following in pairwise(names)]
    what = "straight line" if mode == "lerp" else "great circle"
    what += f" between latents{ends.drawn_as}"
    if loaded.bottleneck.is_quantized:
        what += ", each place the nearest code"
    if kinds is not None and not ends.drawn_as:
        what += ", each row drawn as the class of its first image"
    save(grid(strips, row_labels=rows, title=f"{loaded.name}: {what}"), still)
    # Where one leg ends and the next begins, the way has one image.
    joined = strips.view(*legs.shape[:2], *strips.shape[1:])
    animate(torch.cat([joined[:, :-1].flatten(0, 1), joined[-1:, -1]]), moving)
    wrote(still)
    wrote(moving, show)
