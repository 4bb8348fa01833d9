"""`convae card`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convae.cli._options import (
    BatchSize,
    DataOptions,
    Force,
    MissingLabel,
    Seed,
    open_session,
    with_option_groups,
)
from convae.core.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

    from convae.core.arguments import Named
    from convae.core.progress import Progress
    from convae.evaluation.card import Card
    from convae.latents import Session
    from convae.latents.error_maps import ErrorMaps

PANEL = "Look"
"""The heading under which the help lists the command."""
FILES = ("card.json", "card.html", "card.md", "card.png")
"""What the command writes."""
AUTOMATIC = "efficientnet-lite0"
"""The feature network without `--features`, where its package is installed."""


@with_option_groups
def card(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL ... [metric.option=value ...]",
            help="Artifacts, runs, or card.json files of earlier cards; and options of metrics, such as "
            "lpips.backbone=FILE.",
            show_default=False,
        ),
    ],
    data: DataOptions,
    out: Annotated[
        Path | None,
        typer.Option(help=f"Folder for {', '.join(FILES[:-1])} and {FILES[-1]}.", show_default=False),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(
            help="Feature network, as for convae evaluate; none for none.",
            show_default=f"{AUTOMATIC}, if its package is installed",
        ),
    ] = None,
    metrics: Annotated[
        str, typer.Option(help="Further metrics, separated by commas, such as nll.", show_default=False)
    ] = "",
    label: MissingLabel = None,
    seed: Seed = 0,
    batch_size: BatchSize = 256,
    force: Force = False,
) -> None:
    """Measure models under one protocol: reconstructions, likelihood, latents; a column for each model.

    The page and the picture show the same images for all models, with error maps on one scale and enlarged crops.
    Cards of different protocols (images, sizes, feature network, precision, seed, versions) are not compared.

    Example: `convae card RUN OTHER --data photos/ --split test --out cards`
    """
    from convae.cli._files import new_files
    from convae.cli._screen import work_bar
    from convae.core.config import override
    from convae.core.paths import local_path
    from convae.evaluation.card import check_comparable, read_cards

    paths = [local_path(word) for word in models if "=" not in word or local_path(word).exists()]
    given = override({}, [word for word in models if local_path(word) not in paths])
    if not paths:
        raise ConfigError("name at least one model: an artifact, a run, or the card.json of an earlier card")
    files = [] if out is None else new_files(out, FILES, force)
    extra = [name.strip() for name in metrics.split(",") if name.strip()]
    cards: list[Card] = []
    maps: dict[int, ErrorMaps] = {}
    with work_bar() as bar:
        network = _feature_network(features, bar)
        for path in paths:
            if path.suffix == ".json":
                cards += read_cards(path)
            else:
                session = open_session(path, data, bar, missing_label=label)
                made, shown = _measure(session, network, extra, given, seed, batch_size)
                cards.append(made)
                if shown is not None:
                    maps[len(cards) - 1] = shown
            check_comparable(cards)
    _print(cards)
    if files:
        _write(cards, maps, files)


def _feature_network(written: str | None, progress: Progress) -> Named | None:
    """The feature network of an option; without the option the automatic one, if its package is installed."""
    from convae.cli._features import find_feature_network
    from convae.core.notes import note
    from convae.features import build_feature_network

    if written == "none":
        return None
    if written is not None:
        return find_feature_network(written, progress)
    try:
        build_feature_network(AUTOMATIC)
    except ConfigError as error:
        note(f"no metrics in features: {error}, or name a network (--features)", "yellow")
        return None
    return AUTOMATIC


def _measure(
    session: Session,
    network: Named | None,
    metrics: list[str],
    options: dict[str, Any],
    seed: int,
    batch_size: int,
) -> tuple[Card, ErrorMaps | None]:
    """The card of a model, and the images for the picture; None if they cannot be drawn."""
    from convae.core.notes import note
    from convae.evaluation.card import measure_card
    from convae.evaluation.card.pictures import choose_error_maps

    model, images = session.model, session.images
    made = measure_card(
        model,
        images,
        features=network,
        metrics=metrics,
        options=options,
        seed=seed,
        batch_size=batch_size,
        progress=session.progress,
    )
    shown = choose_error_maps(model, images)
    if not bool(shown.errors.isfinite().all()):
        note(f"model '{model.name}' is not in the picture: its reconstructions are not finite", "yellow")
        return made, None
    return made, shown


def _print(cards: list[Card]) -> None:
    """Prints the metrics, a column for each card, and what was not measured."""
    from rich.table import Table
    from rich.text import Text

    from convae.cli._screen import notes, results
    from convae.evaluation.card.comparison import reasons_left_out, table_rows
    from convae.evaluation.card.names import card_title, unique_names

    table = Table(title=card_title(cards), title_justify="left")
    table.add_column("metric")
    for name in unique_names(cards):
        table.add_column(name, justify="right")
    table.add_column("unit")
    for title, rows in table_rows(cards).items():
        table.add_section()
        table.add_row(Text(title, style="bold", no_wrap=True))
        for row in rows:
            texts = [("–", "") if measured is None else measured.texts() for measured in row.measured]
            space = " " if len(cards) == 1 else "\n"
            cells = [f"{value}{space}({interval})" if interval else value for value, interval in texts]
            table.add_row(row.name, *cells, row.unit_text)
    results.print(table)
    for reason, left_out in reasons_left_out(cards).items():
        notes.print(f"not measured: {', '.join(left_out)}: {reason}", soft_wrap=True)


def _write(cards: list[Card], maps: dict[int, ErrorMaps], files: list[Path]) -> None:
    """Writes the files of the cards, and prints their paths."""
    from convae.cli._screen import wrote
    from convae.core.files import write_text
    from convae.evaluation.card import card_markdown, draw_comparison, render_card_page, write_cards
    from convae.evaluation.card.names import card_title, unique_names
    from convae.evaluation.card.pictures import draw_spectra
    from convae.pictures.save import save

    names = unique_names(cards)
    pictures: dict[str, Image | Figure] = {}
    json_file, page, markdown, picture = files
    if maps:
        shown = {names[number]: own for number, own in maps.items()}
        drawn = draw_comparison(shown, title=card_title(cards))
        pictures["Reconstructions"] = drawn
        save(drawn, picture)
    figure = draw_spectra(cards, names)
    if figure is not None:
        pictures["Power spectra"] = figure
    write_cards(cards, json_file)
    write_text(page, render_card_page(cards, pictures))
    write_text(markdown, card_markdown(cards, picture=picture.name if maps else None))
    for file in files if maps else files[:-1]:
        wrote(file)
