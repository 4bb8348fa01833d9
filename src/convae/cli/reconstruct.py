"""`convae reconstruct`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convae.cli._options import BatchSize, Data, DataDir, Device, Force, Label, Model, Out, Show, SplitOption
from convae.core.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from convae.core.console import WorkBar
    from convae.data import Split
    from convae.model.vae import VAE

PANEL = "Look"
"""Under which heading the help lists the command."""


def reconstruct(
    model: Model,
    out: Out,
    images: Annotated[
        list[str] | None,
        typer.Argument(
            help="Image files, positions in the split or names there; otherwise some of the whole split.",
            show_default=False,
        ),
    ] = None,
    data: Data = None,
    data_dir: DataDir = None,
    split: SplitOption = None,
    count: Annotated[int, typer.Option(min=1, help="How many images on the sheet, where none are chosen.")] = 16,
    every: Annotated[
        bool, typer.Option("--every", help="Write the reconstruction of every image too, under the image's name.")
    ] = False,
    label: Label = None,
    batch_size: BatchSize = 256,
    device: Device = "auto",
    force: Force = False,
    show: Show = False,
) -> None:
    """Draw images beside what the model makes of them, from the posterior's mean.

    Example: `convae reconstruct RUN --count 16 --out pictures`
    """
    from convae.cli._classes import drawn_as, wanted_class
    from convae.cli._latents import short_name, start
    from convae.cli._models import new_files, open_images, open_model
    from convae.cli._screen import work_bar, wrote
    from convae.latents import decode
    from convae.pictures.grid import pairs
    from convae.pictures.save import save

    if images and every:
        raise ConfigError("--every is for all images of a split: give it, or the images to reconstruct")
    loaded = open_model(model, device)
    drawn = wanted_class(loaded, label)
    with work_bar() as bar:
        if images:
            (sheet,) = new_files(out, ["reconstructions.png"], force)
            chosen = start(loaded, images, lambda: open_images(loaded, data, data_dir, split, bar, label=drawn), label)
            originals, decoded = chosen.images, decode(loaded, chosen.z, labels=chosen.labels)
            captions, of = [short_name(word) for word in images], f"{len(images)} images"
        else:
            opened = open_images(loaded, data, data_dir, split, bar, label=drawn)
            sheet, originals, decoded = _split(loaded, opened, out, count, every, drawn, batch_size, force, bar)
            captions, of = None, f"{opened.source} ({opened.name})"
    title = f"{loaded.name}: {of}{drawn_as(loaded, drawn)}"
    save(pairs(originals, decoded, captions=captions, title=title), sheet)
    wrote(sheet, show)


def _split(
    model: VAE,
    images: Split,
    out: Path,
    count: int,
    every: bool,
    drawn: int | None,
    batch_size: int,
    force: bool,
    bar: WorkBar,
) -> tuple[Path, Tensor, Tensor]:
    """Where the sheet goes, images spread over a split and their reconstructions; on request writes those of all."""
    import numpy as np
    import torch

    from convae.cli._latents import image_paths, write_image
    from convae.cli._models import new_files
    from convae.core.file_sets import begin_file_set
    from convae.data.batches import evenly_spaced, in_order

    shown = evenly_spaced(len(images), count)
    paths = image_paths(model, out, images.keys) if every else []
    (sheet,) = new_files(out, ["reconstructions.png"], force)
    if every:
        begin_file_set(out, [str(path.relative_to(out)) for path in paths], force=force)
    originals, reconstructions, done = [], [], 0
    wanted = np.arange(len(images)) if every else shown
    model.check_labels(images.labels, images.source, images.classes)
    for batch in in_order(images, batch_size, next(model.parameters()).device, wanted):
        with torch.no_grad():
            kinds = batch.labels if drawn is None else torch.full_like(batch.indices, drawn)
            decoded = model.decode(model.encode(batch.images, batch.labels).mean, kinds).mean.cpu()
        is_shown = torch.isin(batch.indices.cpu(), torch.from_numpy(shown))
        originals.append(batch.images.cpu()[is_shown])
        reconstructions.append(decoded[is_shown])
        for image, path in zip(decoded, paths[done : done + len(batch)], strict=False):
            write_image(image, path)
        done += len(batch)
        bar(done, len(wanted), "reconstructing (images)")
    return sheet, torch.cat(originals), torch.cat(reconstructions)
