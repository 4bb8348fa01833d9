"""`convae encode`."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from convae.cli._options import BatchSize, Data, DataDir, Device, Model, Out, SplitOption


def encode(
    model: Model,
    out: Out,
    data: Data = None,
    data_dir: DataDir = None,
    split: SplitOption = "all",
    format: Annotated[str, typer.Option(help="safetensors or npz.")] = "safetensors",
    batch_size: BatchSize = 256,
    device: Device = "auto",
) -> None:
    """Encode images to latents: means, log-variances, labels and names, in files of 4,096 images.

    The same command goes on where a killed one stopped; under torchrun each process writes its share of the files.
    """
    from convae.cli._models import open_images, open_model
    from convae.cli._screen import work_bar, wrote
    from convae.latents import Share, encode_to

    loaded = open_model(model, device)
    share = Share(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))
    with work_bar() as bar:
        images = open_images(loaded, data, data_dir, split, bar)
        path = encode_to(loaded, images, out, format=format, share=share, batch_size=batch_size, progress=bar)
    wrote(path)
