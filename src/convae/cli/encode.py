"""`convae encode`."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Annotated

import typer

from convae.cli._options import BatchSize, Data, DataDir, Device, Model, Out, SplitOption
from convae.core.errors import ConfigError

if TYPE_CHECKING:
    from convae.latents import Share


def encode(
    model: Model,
    out: Out,
    data: Data = None,
    data_dir: DataDir = None,
    split: SplitOption = "all",
    format: Annotated[str, typer.Option(help="safetensors, npz or parquet.")] = "safetensors",
    shard: Annotated[
        str | None,
        typer.Option(
            help="Write only part i of n of the files, such as 2/4; under torchrun the rank's.", show_default=False
        ),
    ] = None,
    batch_size: BatchSize = 256,
    device: Device = "auto",
) -> None:
    """Encode images to latents: means, log-variances, codes, labels and names, in files of 4,096 images.

    The same command goes on where a killed one stopped; under torchrun each process writes its share of the files.
    """
    from convae.cli._models import open_images, open_model
    from convae.cli._screen import work_bar, wrote
    from convae.latents import encode_to

    share = _share(shard)
    loaded = open_model(model, device)
    with work_bar() as bar:
        images = open_images(loaded, data, data_dir, split, bar)
        path = encode_to(loaded, images, out, format=format, share=share, batch_size=batch_size, progress=bar)
    wrote(path)


def _share(shard: str | None) -> Share:
    """Which files to write: those that the person says, or else the rank's."""
    from convae.latents import Share

    if shard is None:
        return Share(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", shard)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise ConfigError(f"--shard: part i of n, from 1/4 to 4/4, not '{shard}'")
    return Share(int(found[1]) - 1, int(found[2]))
