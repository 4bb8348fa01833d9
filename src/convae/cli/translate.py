"""`convae translate`."""

from __future__ import annotations

from typing import Annotated

import typer

from convae.cli._options import Data, DataDir, Device, Force, Images, Model, Out, Show, SplitOption
from convae.core.errors import ConfigError

PANEL = "Use"
"""Under which heading the help lists the command."""


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
    split: SplitOption = None,
    device: Device = "auto",
    force: Force = False,
    show: Show = False,
) -> None:
    """Move images along a direction in latent space, from classes, an attribute, or two folders.

    Example: `convae translate RUN cat.jpg --having glasses --out pictures`
    """
    from functools import cache

    import torch

    from convae.cli._classes import class_number, classes_of
    from convae.cli._latents import numbers, short_name, start
    from convae.cli._models import new_files, open_images, open_model
    from convae.cli._screen import work_bar, wrote
    from convae.latents import decode, direction, direction_of_label, encode, nearest_latents
    from convae.latents import translate as move
    from convae.pictures.grid import grid
    from convae.pictures.save import save

    factors = numbers(strengths, "--strengths", float)
    by_class, by_folders = label is not None or attribute is not None, having is not None and without is not None
    if by_class == by_folders or (having is None) != (without is None) or (against is not None and label is None):
        raise ConfigError(
            "a direction comes from --label (and --against), from --attribute, or from --having and --without"
        )
    (sheet,) = new_files(out, ["translation.png"], force)
    loaded = open_model(model, device)
    if loaded.condition is not None and label is not None and attribute is None:
        raise ConfigError(
            f"model '{loaded.name}' is conditional: its latents leave the class to its labels, and convae reconstruct"
            " --label draws images as another class"
        )
    with work_bar() as bar:
        opened = cache(lambda: open_images(loaded, data, data_dir, split, bar))
        given = start(loaded, images, opened)
        if by_class:
            known = opened()
            values, names = classes_of(known, attribute)
            if label is None and not set(names) <= {0, 1}:
                raise ConfigError(f"--attribute: '{attribute}' is no yes or no: --label says which of its classes")
            to, away, what = 1, None if against is None else class_number(against, names), f"towards {attribute}"
            if label is None:
                away = 0
            else:
                to = class_number(label, names)
                what = f"towards {names[to]}" + ("" if away is None else f" from {names[away]}")
                what += "" if attribute is None else f" of {attribute}"
            if to == away:
                raise ConfigError(f"--label and --against are both {names[to]}: a direction leads from one to another")
            by = direction_of_label(encode(loaded, known, progress=bar).mean, torch.from_numpy(values), to, away)
        else:
            with_it, without_it = (
                encode(loaded, open_images(loaded, folder, data_dir, "all", bar), progress=bar).mean
                for folder in (having, without)
            )
            by, what = direction(without_it, with_it), f"from {short_name(str(without))} to {short_name(str(having))}"
    moved = move(given.z, by, factors)
    kinds = None if given.labels is None else given.labels.repeat_interleave(len(factors))
    drawn = decode(loaded, nearest_latents(loaded, moved.flatten(0, 1)), labels=kinds)
    what += ", each place the nearest code" if loaded.bottleneck.is_quantized else ""
    heads = [f"{factor:+g}" if factor else "0" for factor in factors]
    rows = [short_name(word) for word in images]
    save(grid(drawn, row_labels=rows, column_labels=heads, title=f"{loaded.name}: {what}, times the mean step"), sheet)
    wrote(sheet, show)
