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
from convae.core.names import shape_text

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from convae.latents import Session

PANEL = "Look"
"""The heading under which the help lists the command."""
_GRAY = 0.5
"""How missing pixels are drawn."""


@with_option_groups
def reconstruct(
    model: Model,
    output: OutputOptions,
    data: DataOptions,
    images: Annotated[
        list[str] | None,
        typer.Argument(
            help="Image files, positions in the split, or image names; by default evenly spaced ones.",
            show_default=False,
        ),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Images on the sheet, if none are named.")] = 16,
    every: Annotated[
        bool, typer.Option("--every", help="Also write the reconstruction of every image, under the image's name.")
    ] = False,
    levels: Annotated[
        bool, typer.Option("--levels", help="Reconstruct from the top 1, 2, ... latents of a hierarchy alone.")
    ] = False,
    samples: Annotated[
        int, typer.Option(min=1, help="Latents of each image, weighted by importance, to impute missing values with.")
    ] = 1,
    label: Label = None,
    batch_size: BatchSize = 256,
) -> None:
    """Draw images next to their reconstructions from the posterior mean.

    Of images with missing values, it draws what is observed (missing pixels in gray) above the imputed image; --every
    writes imputed images.

    --levels shows what each latent of a hierarchy adds: the latents below are at the mean of their prior.

    Example: `convae reconstruct RUN --count 16 --out pictures`
    """
    from convae.cli._files import new_files, short_name
    from convae.cli._screen import work_bar, wrote
    from convae.pictures.grid import pairs
    from convae.pictures.save import save

    if images and every:
        raise ConfigError("--every reconstructs all images of a split: leave out the names of images")
    if levels and every:
        raise ConfigError("--levels draws one sheet: leave out --every")
    with work_bar() as bar:
        session = open_session(model, data, bar, label=label)
        captions: list[str] | None = None
        if levels:
            (sheet,) = new_files(output.out, ["levels.png"], output.force)
            _compare_levels(session, images, count, sheet)
            wrote(sheet, output.show)
            return
        if images:
            (sheet,) = new_files(output.out, ["reconstructions.png"], output.force)
            given = session.encode_inputs(images)
            originals, decoded = given.images, session.decode(given.z, given.labels)
            captions, what = [short_name(word) for word in images], f"{len(images)} images"
        elif session.images.missing is not None:
            (sheet,) = new_files(output.out, ["imputed.png"], output.force)
            paths = _begin_files(session, output) if every else []
            save(_impute(session, count, paths, samples, batch_size), sheet)
            wrote(sheet, output.show)
            return
        else:
            split = session.images
            (sheet,) = new_files(output.out, ["reconstructions.png"], output.force)
            paths = _begin_files(session, output) if every else []
            originals, decoded = _reconstruct_split(session, count, paths, batch_size)
            what = f"{split.source} ({split.name})"
    title = f"{session.model.name}: {what}{session.label_text}"
    save(pairs(originals, decoded, captions=captions, title=title), sheet)
    wrote(sheet, output.show)


def _compare_levels(session: Session, images: list[str] | None, count: int, sheet: Path) -> None:
    """Draws images above their reconstructions from the top 1, 2, … latents."""
    from convae.cli._files import short_name
    from convae.data.batches import evenly_spaced
    from convae.pictures.grid import compare
    from convae.pictures.save import save

    model = session.model
    if not model.is_hierarchical:
        raise ConfigError(f"--levels: model '{model.name}' has a single latent")
    words = images or [str(position) for position in evenly_spaced(len(session.images), count)]
    given = session.encode_inputs(words)
    rows = {"image": given.images}
    for number, (name, shape) in enumerate(model.latent_layout.entries, 1):
        rows[f"{'+ ' if number > 1 else ''}{name} ({shape_text(shape)})"] = session.decode(
            given.z, given.labels, levels=number
        )
    captions = [short_name(word) for word in images] if images else None
    rest = "left out" if all(latent.is_discrete for latent in model.latent_modules) else "at the mean of their prior"
    title = f"{model.name}: reconstructions from the top latents, the others {rest}"
    save(compare(rows, captions=captions, title=title), sheet)


def _impute(session: Session, count: int, paths: list[Path], samples: int, batch_size: int) -> Image:
    """Draws observed values above imputed images; writes those of all images, where there are paths."""
    import torch

    from convae.cli._files import write_image
    from convae.data.batches import evenly_spaced
    from convae.pictures.grid import compare

    split = session.images
    chosen = evenly_spaced(len(split), count)
    shown = set(chosen.tolist()) if paths else set(range(len(chosen)))
    observed, found, done = [], [], 0
    for images, weights, imputed in session.impute(None if paths else chosen, samples=samples, batch_size=batch_size):
        kept = [row for row in range(len(images)) if done + row in shown]
        observed.append(torch.lerp(torch.full_like(images, _GRAY), images, weights)[kept])
        found.append(imputed[kept])
        for image, path in zip(imputed, paths[done : done + len(imputed)], strict=False):
            write_image(image, path)
        done += len(imputed)
    title = f"{session.model.name}: missing values of {split.source} ({split.name}){session.label_text}"
    return compare({"observed": torch.cat(observed), "imputed": torch.cat(found)}, title=title)


def _begin_files(session: Session, output: OutputOptions) -> list[Path]:
    """The files of the reconstructions of all images, in a folder that holds no others of the kind."""
    from convae.cli._files import image_paths
    from convae.core.file_sets import begin_file_set

    paths = image_paths(session.model, output.out, session.images.keys)
    begin_file_set(output.out, [str(path.relative_to(output.out)) for path in paths], force=output.force)
    return paths


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
