"""`convae translate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from convae.cli._options import DataOptions, Images, Model, OutputOptions, open_session, with_option_groups
from convae.core.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from convae.latents import Session

PANEL = "Use"
"""The heading under which the help lists the command."""


@with_option_groups
def translate(
    model: Model,
    images: Images,
    output: OutputOptions,
    data: DataOptions,
    label: Annotated[str | None, typer.Option(help="Class to move towards.")] = None,
    against: Annotated[str | None, typer.Option(help="Class to move away from; by default all others.")] = None,
    attribute: Annotated[
        str | None,
        typer.Option(help="A yes/no column of the data, such as Smiling in CelebA; or the column of --label."),
    ] = None,
    positive: Annotated[
        str | None, typer.Option(help="Folder of images with an attribute, instead of classes.")
    ] = None,
    negative: Annotated[str | None, typer.Option(help="Folder of images without the attribute.")] = None,
    strengths: Annotated[str, typer.Option(help="Multiples of the direction to add.")] = "-1,0,0.5,1,1.5,2,3",
) -> None:
    """Latent arithmetic: add a direction to the latents of images, from classes, an attribute or two folders.

    Example: `convae translate RUN cat.jpg --positive glasses --negative plain --out pictures`
    """
    from convae.cli._files import new_files, short_name
    from convae.cli._parsing import comma_separated
    from convae.cli._screen import work_bar, wrote
    from convae.latents import translate as add_direction
    from convae.latents.quantized import nearest_paths
    from convae.pictures.grid import grid
    from convae.pictures.save import save

    factors = comma_separated(strengths, "--strengths", float)
    by_class, by_folders = label is not None or attribute is not None, positive is not None and negative is not None
    if by_class == by_folders or (positive is None) != (negative is None) or (against is not None and label is None):
        raise ConfigError("give a direction: --label (and --against), --attribute, or both --positive and --negative")
    (sheet,) = new_files(output.out, ["translation.png"], output.force)
    with work_bar() as bar:
        session = open_session(model, data, bar)
        if session.is_conditional and label is not None and attribute is None:
            raise ConfigError(
                f"model '{session.model.name}' is conditional, and its latents do not hold the class: "
                "`convae reconstruct --label` decodes images as another class"
            )
        given = session.encode_inputs(images)
        if by_class:
            vector, what = _by_class(session, label, against, attribute)
        else:
            vector, what = _by_folders(session, str(positive), str(negative))
    labels = None if given.labels is None else given.labels.repeat_interleave(len(factors))
    unmoved = [number for number, factor in enumerate(factors) if not factor]
    moved = nearest_paths(session.model, add_direction(given.z, vector, factors), unmoved)
    decoded = session.decode(moved.flatten(0, 1), labels)
    if session.model.bottleneck.codebook_sizes:
        what += ", quantized to the nearest codes"
    heads = [f"{factor:+g}" if factor else "0" for factor in factors]
    title = f"{session.model.name}: {what}, in multiples of the direction"
    save(grid(decoded, row_labels=[short_name(word) for word in images], column_labels=heads, title=title), sheet)
    wrote(sheet, output.show)


def _by_folders(session: Session, positive: str, negative: str) -> tuple[Tensor, str]:
    """The direction between the images of two folders, and its description."""
    from convae.cli._files import short_name
    from convae.cli._parsing import data_source
    from convae.latents import find_direction

    with_it, without_it = (
        session.encode(session.open_images(data_source(folder, option), "all")).mean
        for folder, option in ((positive, "--positive"), (negative, "--negative"))
    )
    return find_direction(without_it, with_it), f"from {short_name(negative)} to {short_name(positive)}"


def _by_class(session: Session, label: str | None, against: str | None, attribute: str | None) -> tuple[Tensor, str]:
    """The direction to a class, or from no to yes of an attribute, and its description."""
    import torch

    from convae.latents import class_number, find_class_direction, read_labels

    values, names = read_labels(session.images, attribute)
    away: int | None
    if label is None:
        if not set(names) <= {0, 1}:
            raise ConfigError(f"--attribute: '{attribute}' is not a yes/no column: choose one of its classes (--label)")
        to, away, what = 1, 0, f"to {attribute}"
    else:
        to, away = class_number(label, names), None if against is None else class_number(against, names)
        what = f"to {names[to]}" + ("" if away is None else f" from {names[away]}")
        what += "" if attribute is None else f" of {attribute}"
    if to == away:
        raise ConfigError(f"--label and --against are both {names[to]}: name two different classes")
    return find_class_direction(session.encode().mean, torch.from_numpy(values), to, away), what
