"""`convae reconstruct`."""

from __future__ import annotations

from typing import Annotated

import typer

from convae.cli._options import Data, DataDir, Device, Force, Model, Out, SplitOption


def reconstruct(
    model: Model,
    out: Out,
    data: Data = None,
    data_dir: DataDir = None,
    split: SplitOption = "test",
    count: Annotated[int, typer.Option(min=1, help="How many images, from the first on.")] = 16,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Draw images beside what the model makes of them, from the posterior's mean."""
    import torch

    from convae.cli._models import new_files, open_images, open_model
    from convae.cli._screen import work_bar, wrote
    from convae.data import in_order
    from convae.pictures.grid import pairs
    from convae.pictures.save import save

    (sheet,) = new_files(out, ["reconstructions.png"], force)
    loaded = open_model(model, device)
    with work_bar() as bar:
        images = open_images(loaded, data, data_dir, split, bar)
    batch = next(iter(in_order(images, min(count, len(images)), next(loaded.parameters()).device)))
    with torch.no_grad():
        decoded = loaded.decode(loaded.encode(batch.images).mean).mean
    save(pairs(batch.images.cpu(), decoded.cpu(), title=f"{loaded.name}: {images.source} images ({split})"), sheet)
    wrote(sheet)
