"""`convae reconstruct`."""

from __future__ import annotations

from typing import Annotated

import typer

from convae.cli._options import BatchSize, Data, DataDir, Device, Force, Label, Model, Out, Show, SplitOption


def reconstruct(
    model: Model,
    out: Out,
    data: Data = None,
    data_dir: DataDir = None,
    split: SplitOption = None,
    count: Annotated[int, typer.Option(min=1, help="How many images on the sheet, from the first on.")] = 16,
    every: Annotated[
        bool, typer.Option("--every", help="Write the reconstruction of every image too, under the image's name.")
    ] = False,
    label: Label = None,
    batch_size: BatchSize = 256,
    device: Device = "auto",
    force: Force = False,
    show: Show = False,
) -> None:
    """Draw images beside what the model makes of them, from the posterior's mean."""
    import numpy as np
    import torch

    from convae.cli._classes import drawn_as, wanted_class
    from convae.cli._latents import image_paths, write_image
    from convae.cli._models import new_files, open_images, open_model
    from convae.cli._screen import work_bar, wrote
    from convae.core.file_sets import begin_file_set
    from convae.data import in_order
    from convae.pictures.grid import pairs
    from convae.pictures.save import save

    loaded = open_model(model, device)
    drawn = wanted_class(loaded, label)
    with work_bar() as bar:
        images = open_images(loaded, data, data_dir, split, bar, label=drawn)
        shown = min(count, len(images))
        paths = image_paths(loaded, out, images.keys) if every else []
        (sheet,) = new_files(out, ["reconstructions.png"], force)
        if every:
            begin_file_set(out, [str(path.relative_to(out)) for path in paths], force=force)
        originals, reconstructions, done = [], [], 0
        wanted = np.arange(len(images) if every else shown)
        loaded.check_labels(images.labels, images.source, images.classes)
        for batch in in_order(images, batch_size, next(loaded.parameters()).device, wanted):
            with torch.no_grad():
                kinds = batch.labels if drawn is None else torch.full_like(batch.indices, drawn)
                decoded = loaded.decode(loaded.encode(batch.images, batch.labels).mean, kinds).mean.cpu()
            if done < shown:
                originals.append(batch.images[: shown - done].cpu())
                reconstructions.append(decoded[: shown - done])
            for image, path in zip(decoded, paths[done : done + len(batch)], strict=False):
                write_image(image, path)
            done += len(batch)
            bar(done, len(wanted), "reconstructing (images)")
    title = f"{loaded.name}: {images.source} ({images.name}){drawn_as(loaded, drawn)}"
    save(pairs(torch.cat(originals), torch.cat(reconstructions), title=title), sheet)
    wrote(sheet, show)
