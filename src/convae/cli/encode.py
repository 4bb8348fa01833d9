"""`convae encode`."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Annotated

import typer

from convae.cli._options import BatchSize, Data, DataDir, Device, EncodeSplit, ImageLabel, Model, Out
from convae.core.errors import ConfigError

if TYPE_CHECKING:
    from convae.latents import FileShard

PANEL = "Use"
"""Under which heading the help lists the command."""


def encode(
    model: Model,
    out: Out,
    data: Data = None,
    data_dir: DataDir = None,
    split: EncodeSplit = None,
    format: Annotated[str, typer.Option(help="safetensors, npz, or as flat tables csv and parquet.")] = "safetensors",
    shard: Annotated[
        str | None,
        typer.Option(
            help="Write only part i of n of the files, such as 2/4; under torchrun the rank's.", show_default=False
        ),
    ] = None,
    label: ImageLabel = None,
    batch_size: BatchSize = 256,
    device: Device = "auto",
    force: Annotated[bool, typer.Option("--force", help="Remove other latents from the folder first.")] = False,
) -> None:
    """Encode images to latents: means, log-variances, codes, names, splits and labels, in files of 4,096 images.

    latents.json beside them holds the names of the classes and the scale of the latents. `convae table` writes one file
    with scores and clusters. The same command continues where a killed one stopped; under torchrun each process writes
    its part of the files.

    Example: `convae encode RUN --data photos/ --format csv --out latents`
    """
    from convae.cli._classes import wanted_class
    from convae.cli._models import open_images, open_model
    from convae.cli._screen import results, work_bar, wrote
    from convae.latents import encode_to
    from convae.latents.encoding import read_manifest

    part = _shard(shard)
    loaded = open_model(model, device)
    with work_bar() as bar:
        wanted = wanted_class(loaded, label)
        images = open_images(loaded, data, data_dir, split, bar, usual="all", label=wanted, must_fill=True)
        path = encode_to(
            loaded, images, out, format=format, shard=part, batch_size=batch_size, force=force, progress=bar
        )
    found = read_manifest(path.parent, is_complete=False).get("statistics")
    if found is not None:
        scale = "" if found["scaling_factor"] is None else f", scaling factor {found['scaling_factor']:.5g}"
        results.print(
            f"{found['images']:,} latents: mean {found['mean']:.4g}, standard deviation {found['std']:.5g}{scale}; "
            f"by channel in {path.name}",
            soft_wrap=True,
        )
    wrote(path)


def _shard(shard: str | None) -> FileShard:
    """Which files to write: those that the person says, or else the rank's."""
    from convae.latents import FileShard

    if shard is None:
        return FileShard(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", shard)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise ConfigError(f"--shard: part i of n, from 1/4 to 4/4, not '{shard}'")
    return FileShard(int(found[1]) - 1, int(found[2]))
