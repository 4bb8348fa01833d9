"""`convae translate`."""

from __future__ import annotations

from typing import Annotated

import typer

from convae.cli._options import Data, DataDir, Device, Force, Images, Model, Out, Show, SplitOption
from convae.core.errors import ConfigError


def translate(
    model: Model,
    images: Images,
    out: Out,
    label: Annotated[str | None, typer.Option(help="The class that the direction leads to.")] = None,
    against: Annotated[str | None, typer.Option(help="The class it leads away from; otherwise all others.")] = None,
    attribute: Annotated[
        str | None, typer.Option(help="Take the classes of this column, such as Smiling in CelebA; alone, yes from no.")
    ] = None,
    having: Annotated[str | None, typer.Option(help="Instead: a folder of images that have something.")] = None,
    without: Annotated[str | None, typer.Option(help="A folder of images, or their partners, without it.")] = None,
    strengths: Annotated[str, typer.Option(help="How far to go along the direction.")] = "-1,0,0.5,1,1.5,2,3",
    data: Data = None,
    data_dir: DataDir = None,
    split: SplitOption = "test",
    device: Device = "auto",
    force: Force = False,
    show: Show = False,
) -> None:
    """Move images along a direction in latent space, from classes, an attribute, or two folders."""
    import torch

    from convae.cli._latents import class_number, classes_of, named_images, numbers
    from convae.cli._models import new_files, open_images, open_model
    from convae.cli._screen import work_bar, wrote
    from convae.latents import decode, direction, direction_of_label, encode
    from convae.latents import translate as move
    from convae.pictures.grid import grid
    from convae.pictures.save import save

    if attribute is not None and label is None:
        label, against = "1", "0"
    factors = numbers(strengths, "--strengths", float)
    by_class, by_folders = label is not None, having is not None and without is not None
    if by_class == by_folders or (having is None) != (without is None):
        raise ConfigError("a direction comes from --label (and --against), or from --having and --without")
    (sheet,) = new_files(out, ["translation.png"], force)
    loaded = open_model(model, device)
    with work_bar() as bar:
        start = named_images(loaded, images, lambda: open_images(loaded, data, data_dir, split, bar))
        if label is not None:
            known = open_images(loaded, data, data_dir, split, bar, attribute)
            called = classes_of(known)
            to, away = class_number(label, called), None if against is None else class_number(against, called)
            encoding = encode(loaded, known, progress=bar)
            assert encoding.labels is not None  # a class was found among them
            by = direction_of_label(encoding.mean, encoding.labels, to, away)
            what = f"towards {label}" + ("" if against is None else f" from {against}")
            what += "" if attribute is None else f" of {attribute}"
        else:
            with_it, without_it = (
                encode(loaded, open_images(loaded, folder, data_dir, "all", bar), progress=bar).mean
                for folder in (having, without)
            )
            by, what = direction(without_it, with_it), f"from {without} to {having}"
    with torch.no_grad():
        z = loaded.encode(start.to(next(loaded.parameters()).device)).mean.cpu()
    moved = decode(loaded, move(z, by, factors).flatten(0, 1))
    heads = [f"{factor:+g}" if factor else "0" for factor in factors]
    save(grid(moved, row_labels=images, column_labels=heads, title=f"{loaded.name}: {what}"), sheet)
    wrote(sheet, show)
