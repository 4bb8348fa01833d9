"""`convae decode`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convae.cli._options import BatchSize, Device, Force, Label, Model, Out


def decode(
    model: Model,
    latents: Annotated[Path, typer.Argument(help="A folder that convae encode wrote.", show_default=False)],
    out: Out,
    label: Label = None,
    batch_size: BatchSize = 256,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Decode latents to images with the names of those that were encoded."""
    import torch

    from convae.cli._classes import wanted_class
    from convae.cli._latents import image_paths, write_image
    from convae.cli._models import open_model
    from convae.cli._screen import work_bar, wrote
    from convae.core.file_sets import begin_file_set
    from convae.latents import decoded, read_latents

    loaded = open_model(model, device)
    wanted = wanted_class(loaded, label)
    encoding, _ = read_latents(latents)
    labels = encoding.labels if wanted is None else torch.full((len(encoding),), wanted)
    paths = image_paths(loaded, out, encoding.names)
    begin_file_set(out, [str(path.relative_to(out)) for path in paths], force=force)
    done = 0
    with work_bar() as bar:
        for images in decoded(loaded, encoding.mean, labels=labels, batch_size=batch_size):
            for image, path in zip(images, paths[done : done + len(images)], strict=True):
                write_image(image, path)
            done += len(images)
            bar(done, len(paths), "decoding (images)")
    wrote(out)
