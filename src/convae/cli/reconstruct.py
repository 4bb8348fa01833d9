"""`convae reconstruct`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convae.cli._engines import Engine, first_batch, require_torch, use_engine, use_refinement
from convae.cli._large_images import LargeImageOptions
from convae.cli._options import (
    BatchSize,
    DataOptions,
    Label,
    Model,
    OutputOptions,
    Refine,
    open_session,
    with_option_groups,
)
from convae.core.errors import ConfigError
from convae.core.names import count_text, shape_text

if TYPE_CHECKING:
    from collections.abc import Iterable

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
    large: LargeImageOptions,
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
    refine: Refine = 0,
    label: Label = None,
    batch_size: BatchSize = 256,
    engine: Engine = "torch",
) -> None:
    """Draw images next to their reconstructions from the posterior mean.

    Of images with missing values, it draws what is observed (missing pixels in gray) above the imputed image; --every
    writes imputed images.

    --levels shows what each latent of a hierarchy adds: the latents below are at the mean of their prior.

    Example: `convae reconstruct RUN --count 16 --out pictures`
    """
    from convae.cli._files import new_files
    from convae.cli._screen import work_bar, wrote
    from convae.pictures.save import save

    if images and every:
        raise ConfigError("--every reconstructs all images of a split: leave out the names of images")
    if levels and every:
        raise ConfigError("--levels draws one sheet: leave out --every")
    with work_bar() as bar:
        session = open_session(model, data, bar, label=label, size=large.image_size())
        imputes = not (levels or images) and session.images.missing is not None
        if levels or imputes:
            require_torch(engine, "--levels" if levels else "imputing missing values")
        if refine:
            use_refinement(session, refine, engine, large)
        elif not (levels or imputes) and engine != "torch":
            number = len(images) if images else len(session.images) if every else count
            _use_engine(session, engine, large, number, min(batch_size, number), is_named=bool(images))
        large.apply(session.model)
        large.report(session.model, lambda: _reconstruct_first(session, images), "image")
        name = "levels.png" if levels else "imputed.png" if imputes else "reconstructions.png"
        (sheet,) = new_files(output.out, [name], output.force)
        paths = _begin_files(session, output) if every else []
        if levels:
            drawn = _draw_levels(session, images, count)
        elif images:
            drawn = _draw_named(session, images)
        elif imputes:
            drawn = _draw_imputed(session, count, paths, samples, batch_size)
        else:
            drawn = _draw_split(session, count, paths, batch_size)
    save(drawn, sheet)
    wrote(sheet, output.show)


def _use_engine(
    session: Session, engine: Engine, large: LargeImageOptions, number: int, size: int, *, is_named: bool
) -> None:
    """Computes encoder and decoder by another engine, for batches of a size out of a number of images."""
    given, labels = (None, None) if is_named else first_batch(session, size)
    use_engine(
        session,
        engine,
        ["encode", "decode"],
        large=large,
        images=given,
        labels=labels,
        batch_size=size,
        count=number,
    )


def _how(session: Session) -> str:
    """What titles say of the decoded class and of refined posteriors; empty without them."""
    from convae.latents.refinement import refinement_text

    return session.label_text + refinement_text(session.engine.refinement_steps)


def _reconstruct_first(session: Session, images: list[str] | None) -> Tensor:
    """The reconstruction of the first image, to compare tiles with the exact result."""
    import numpy as np

    if not images:
        return next(session.reconstruct(np.zeros(1, np.int64)))[1]
    given = session.encode_inputs(images[:1])
    return session.decode(given.z, given.labels)


def _draw_named(session: Session, images: list[str]) -> Image:
    """Draws images given by file, position or name next to their reconstructions."""
    from convae.cli._files import short_name
    from convae.pictures.grid import pairs

    given = session.encode_inputs(images)
    title = f"{session.model.name}: {count_text(len(images), 'image')}{_how(session)}"
    captions = [short_name(word) for word in images]
    return pairs(given.images, session.decode(given.z, given.labels), captions=captions, title=title)


def _draw_levels(session: Session, images: list[str] | None, count: int) -> Image:
    """Draws images above their reconstructions from the top 1, 2, … latents."""
    from convae.cli._files import short_name
    from convae.data.image_set import evenly_spaced
    from convae.pictures.grid import compare

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
    return compare(rows, captions=captions, title=title)


def _draw_imputed(session: Session, count: int, paths: list[Path], samples: int, batch_size: int) -> Image:
    """Draws observed values above imputed images, and writes all imputed images if there are paths."""
    import torch

    from convae.data.image_set import evenly_spaced
    from convae.pictures.grid import compare

    split = session.images
    chosen = evenly_spaced(len(split), count)
    imputed = session.impute(None if paths else chosen, samples=samples, batch_size=batch_size)
    shown = ((torch.lerp(torch.full_like(images, _GRAY), images, weights), full) for images, weights, full in imputed)
    observed, found = _collect(shown, chosen.tolist(), paths)
    title = f"{session.model.name}: missing values of {split.source} ({split.name}){_how(session)}"
    return compare({"observed": observed, "imputed": found}, title=title)


def _draw_split(session: Session, count: int, paths: list[Path], batch_size: int) -> Image:
    """Draws evenly spaced images next to their reconstructions, and writes all reconstructions if there are paths."""
    from convae.data.image_set import evenly_spaced
    from convae.pictures.grid import pairs

    split = session.images
    chosen = evenly_spaced(len(split), count)
    reconstructed = session.reconstruct(None if paths else chosen, batch_size=batch_size)
    originals, decoded = _collect(reconstructed, chosen.tolist(), paths)
    return pairs(
        originals,
        decoded,
        title=f"{session.model.name}: {split.source} ({split.name}){_how(session)}",
    )


def _collect(batches: Iterable[tuple[Tensor, Tensor]], chosen: list[int], paths: list[Path]) -> tuple[Tensor, Tensor]:
    """The pairs of images at the chosen positions; writes the second image of every pair if there are paths.

    Args:
        batches: pairs of images, of the whole split if there are paths, otherwise of the chosen positions.
        chosen: positions in the split.
        paths: files of all images; empty to write none.
    """
    import torch

    from convae.cli._files import write_image

    shown = set(chosen) if paths else set(range(len(chosen)))
    first, second, done = [], [], 0
    for left, right in batches:
        kept = [row for row in range(len(right)) if done + row in shown]
        first.append(left[kept])
        second.append(right[kept])
        for image, path in zip(right, paths[done : done + len(right)], strict=False):
            write_image(image, path)
        done += len(right)
    return torch.cat(first), torch.cat(second)


def _begin_files(session: Session, output: OutputOptions) -> list[Path]:
    """The files of the reconstructions of all images, in a folder without other files of the kind."""
    from convae.cli._files import image_paths
    from convae.core.file_sets import begin_file_set

    paths = image_paths(session.model, output.out, session.images.keys)
    begin_file_set(output.out, [str(path.relative_to(output.out)) for path in paths], force=output.force)
    return paths
