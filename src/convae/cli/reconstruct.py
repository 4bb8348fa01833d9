"""`convae reconstruct`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convae.cli._options import (
    BatchSize,
    DataOptions,
    Label,
    Model,
    OutputOptions,
    open_session,
    with_option_groups,
)
from convae.core.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from convae.latents import Session

PANEL = "Look"
"""The heading under which the help lists the command."""


@with_option_groups
def reconstruct(
    model: Model,
    output: OutputOptions,
    data: DataOptions,
    images: Annotated[
        list[str] | None,
        typer.Argument(
            help="Image files, positions in the split, or image names; otherwise some spread over the split.",
            show_default=False,
        ),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Images on the sheet, where none are named.")] = 16,
    every: Annotated[
        bool, typer.Option("--every", help="Also write the reconstruction of every image, under the image's name.")
    ] = False,
    label: Label = None,
    batch_size: BatchSize = 256,
) -> None:
    """Draw images next to their reconstructions from the posterior mean.

    Example: `convae reconstruct RUN --count 16 --out pictures`
    """
    from convae.cli._files import image_paths, new_files, short_name
    from convae.cli._screen import work_bar, wrote
    from convae.core.file_sets import begin_file_set
    from convae.pictures.grid import pairs
    from convae.pictures.save import save

    if images and every:
        raise ConfigError("--every is for all images of a split: leave it out, or name no images")
    with work_bar() as bar:
        session = open_session(model, data, bar, label=label)
        captions: list[str] | None = None
        if images:
            (sheet,) = new_files(output.out, ["reconstructions.png"], output.force)
            given = session.encode_inputs(images)
            originals, decoded = given.images, session.decode(given.z, given.labels)
            captions, what = [short_name(word) for word in images], f"{len(images)} images"
        else:
            split = session.images
            paths = image_paths(session.model, output.out, split.keys) if every else []
            (sheet,) = new_files(output.out, ["reconstructions.png"], output.force)
            if every:
                begin_file_set(output.out, [str(path.relative_to(output.out)) for path in paths], force=output.force)
            originals, decoded = _reconstruct_split(session, count, paths, batch_size)
            what = f"{split.source} ({split.name})"
    title = f"{session.model.name}: {what}{session.label_text}"
    save(pairs(originals, decoded, captions=captions, title=title), sheet)
    wrote(sheet, output.show)


def _reconstruct_split(session: Session, count: int, paths: list[Path], batch_size: int) -> tuple[Tensor, Tensor]:
    """Images spread over the split and their reconstructions; writes those of all images, where there are paths."""
    import torch

    from convae.cli._files import write_image
    from convae.data.batches import evenly_spaced

    chosen = evenly_spaced(len(session.images), count)
    shown = set(chosen.tolist()) if paths else set(range(len(chosen)))
    originals, reconstructions, done = [], [], 0
    for images, decoded in session.reconstruct(None if paths else chosen, batch_size=batch_size):
        kept = [row for row in range(len(images)) if done + row in shown]
        originals.append(images[kept])
        reconstructions.append(decoded[kept])
        for image, path in zip(decoded, paths[done : done + len(decoded)], strict=False):
            write_image(image, path)
        done += len(decoded)
    return torch.cat(originals), torch.cat(reconstructions)
