"""`convae encode`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convae.cli._engines import Engine, first_batch, use_engine, use_refinement
from convae.cli._large_images import LargeImageOptions
from convae.cli._options import (
    AllDataOptions,
    BatchSize,
    MissingLabel,
    Model,
    Refine,
    open_session,
    with_option_groups,
)
from convae.core.errors import ConfigError
from convae.core.names import count_text

if TYPE_CHECKING:
    from convae.latents import FileShard

PANEL = "Use"
"""The heading under which the help lists the command."""


@with_option_groups
def encode(
    model: Model,
    out: Annotated[Path, typer.Option("--out", help="Output folder.", show_default=False)],
    data: AllDataOptions,
    large: LargeImageOptions,
    format: Annotated[str, typer.Option(help="safetensors, npz, or flat tables: csv, parquet.")] = "safetensors",
    shard: Annotated[
        str | None,
        typer.Option(help="Write only shard i of n, such as 2/4; under torchrun the rank's.", show_default=False),
    ] = None,
    label: MissingLabel = None,
    batch_size: BatchSize = 256,
    refine: Refine = 0,
    engine: Engine = "torch",
    force: Annotated[bool, typer.Option("--force", help="Remove other latents from the folder first.")] = False,
) -> None:
    """Encode images to latents: means, log-variances, codes, names, splits and labels, 4,096 images per file.

    latents.json holds the class names and the scale of the latents. `convae table` writes one file with scores and
    clusters. The same command resumes after a stop; under torchrun each process writes its shard of the files.

    Example: `convae encode RUN --data photos/ --format csv --out latents`
    """
    import numpy as np

    from convae.cli._screen import results, work_bar, wrote
    from convae.latents import encode as encode_images
    from convae.latents import encode_to
    from convae.latents.folders import read_manifest

    part = _shard(shard)
    with work_bar() as bar:
        session = open_session(model, data, bar, default_split="all", missing_label=label, size=large.image_size())
        if refine:
            use_refinement(session, refine, engine, large)
        elif engine != "torch":
            images, labels = first_batch(session, batch_size)
            count = len(session.images)
            use_engine(session, engine, ["encode"], large=large, images=images, labels=labels, count=count)
        large.apply(session.model)
        first = np.zeros(1, np.int64)
        large.report(session.model, lambda: encode_images(session.model, session.images, indices=first).mean, "latent")
        path = encode_to(
            session.model,
            session.images,
            out,
            format=format,
            shard=part,
            batch_size=batch_size,
            force=force,
            progress=bar,
            engine=session.engine,
        )
    found = read_manifest(path.parent, is_complete=False).get("statistics")
    if found is not None:
        scale = "" if found["scaling_factor"] is None else f", scaling factor {found['scaling_factor']:.5g}"
        results.print(
            f"{count_text(found['images'], 'latent')}: mean {found['mean']:.4g}, standard deviation {found['std']:.5g}"
            f"{scale}; per channel in {path.name}",
            soft_wrap=True,
        )
    wrote(path)


def _shard(shard: str | None) -> FileShard:
    """The files to write: those that the user names, or else the rank's."""
    from convae.latents import FileShard

    if shard is None:
        return FileShard(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", shard)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise ConfigError(f"--shard: expected shard i of n, such as 2/4, got '{shard}'")
    return FileShard(int(found[1]) - 1, int(found[2]))
