"""`convae data`."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convae.cli._options import DataDir, Force
from convae.core.errors import ConfigError

if TYPE_CHECKING:
    from PIL.Image import Image

    from convae.data import DataConfig, Split, Statistics

_SHOWN = 64
_CLASSES = 12

PANEL = "Start"
"""The heading under which the help lists the command."""


def data(
    source: Annotated[
        str,
        typer.Argument(
            help="A data set's name, a folder, or a table or array file; with options: '{sprites: {count: 500}}'."
        ),
    ],
    options: Annotated[
        list[str] | None,
        typer.Argument(metavar="[key.path=value ...]", help="Options of a recipe's data section, such as size=64."),
    ] = None,
    data_dir: DataDir = None,
    out: Annotated[Path | None, typer.Option(help="Draw a contact sheet into this folder.", show_default=False)] = None,
    force: Force = False,
) -> None:
    """Describe a data set, and draw a contact sheet with --out.

    Images of one size, or resized to one by `size=64`, are decoded once and measured. For images of several sizes, only
    headers are read.

    Example: `convae data photos/ --out pictures`
    """
    from convae.cli._files import new_files
    from convae.cli._parsing import data_source
    from convae.cli._screen import work_bar, wrote
    from convae.core.config import override, parse
    from convae.data import DataConfig, open_split, statistics
    from convae.data.report import preview
    from convae.pictures.save import save

    given = {"source": data_source(source, "SOURCE")} | ({"dir": str(data_dir)} if data_dir is not None else {})
    # Options may also be written as in a recipe, data.size=64.
    config = parse(DataConfig, override(given, [option.removeprefix("data.") for option in options or []]), "data")
    with work_bar() as bar:
        found = preview(config, bar)
    if found is not None:
        again = f"to decode them and see their values, give a size: convae data {source} size={found.size}"
        _print(found.source, [*found.rows, ("proposed size", str(found.size))], [*found.notes, again])
        if out is not None:
            raise ConfigError(f"a contact sheet needs a size: give size={found.size}")
        return
    with work_bar() as bar:
        split = open_split(config, "all", progress=bar)
        sheets = new_files(out, [re.sub(r"[^\w.-]+", "-", split.source) + ".png"], force) if out is not None else []
        measured = statistics(split, bar)
        rows = _rows(split, config, measured)
    _print(split.source, rows, split.notes)
    for sheet in sheets:
        save(_sheet(split), sheet)
        wrote(sheet)


def _print(title: str, rows: list[tuple[str, str]], sentences: Sequence[str]) -> None:
    """Prints a table of facts, and notes below it."""
    from rich.table import Table

    from convae.cli._screen import notes, results

    table = Table(title=title, title_justify="left", show_header=False)
    for name, text in rows:
        table.add_row(name, text)
    results.print(table)
    for sentence in sentences:
        notes.print(sentence, soft_wrap=True, style="yellow")


def _sheet(split: Split) -> Image:
    """A contact sheet: evenly spaced images with their classes."""
    from convae.core.names import class_names, count_text
    from convae.data import in_order
    from convae.data.image_set import evenly_spaced
    from convae.pictures.grid import grid

    shown = evenly_spaced(len(split), _SHOWN)
    captions = None
    if split.labels is not None:
        names = class_names(sorted({*split.labels.tolist()} - {-1}), split.classes)
        captions = [names.get(label, "") for label in split.labels[shown].tolist()]
    title = f"{split.source}: {len(shown)} of {count_text(len(split), 'image')}"
    batch = next(in_order(split, len(shown), indices=shown))
    return grid(batch.images, captions=captions, title=title)


def _rows(split: Split, config: DataConfig, measured: Statistics) -> list[tuple[str, str]]:
    """Names and values of the table."""
    from convae.core.names import shape_text
    from convae.data.report import transparency_text

    smallest, largest = split.original_sizes.min(0).tolist(), split.original_sizes.max(0).tolist()
    sizes = (
        shape_text(smallest)
        if smallest == largest
        else f"sizes between {shape_text(smallest)} and {shape_text(largest)}"
    )
    changed = "" if smallest == largest == list(split.shape[1:]) else f", {config.resize_mode} from {sizes}"
    parts = _parts(config)
    rows = [
        ("images", f"{len(split):,}"),
        ("split", ", ".join(f"{name} {len(part):,} ({part.describe()['chosen']})" for name, part in parts.items())),
        *_repeated(parts),
        ("stored as", f"{shape_text(split.shape)} {split.kind} (channels first){changed}"),
        ("values", " ".join(f"{a:.4f}…{b:.4f}" for a, b in zip(measured.low, measured.high, strict=True))),
        ("mean", " ".join(f"{value:.4f}" for value in measured.mean)),
        ("standard deviation", " ".join(f"{value:.4f}" for value in measured.std)),
    ]
    transparent = int(split.facts["transparent"].sum())
    if transparent and split.shape[0] != len("RGBA"):
        rows.append(("transparency", transparency_text(transparent, len(split))))
    for name, column in split.columns.items():
        values = column.values[column.values >= 0]
        kinds = sorted(set(values.tolist()))
        named = [str(kind) if column.classes is None else column.classes[kind] for kind in kinds]
        listed = "; ".join(f"{text}: {(values == kind).sum():,}" for text, kind in zip(named, kinds, strict=True))
        text = listed if len(kinds) <= _CLASSES else f"{len(kinds):,} different values"
        missing = len(column.values) - len(values)
        rows.append((f"column {name}", text + (f"; without one: {missing:,}" if missing else "")))
    skipped = f"{len(split.skipped):,} (listed in {split.folder / 'skipped.csv'})" if split.skipped else "none"
    disk = sum(path.stat().st_size for path in split.folder.iterdir())
    return [*rows, ("skipped", skipped), ("on the disk", f"{disk / 1e6:,.1f} MB in {split.folder}")]


def _parts(config: DataConfig) -> dict[str, Split]:
    """The splits that have images, by name."""
    from convae.core.errors import DataError
    from convae.data import open_split

    found = {}
    for part in ("train", "validation", "test"):
        with contextlib.suppress(DataError):  # an empty split
            found[part] = open_split(config, part)
    return found


def _repeated(parts: dict[str, Split]) -> list[tuple[str, str]]:
    """Number of duplicates, and of held-out images that are training images as well."""
    from convae.data.splits.statistics import find_duplicates

    found = find_duplicates(parts)
    if not found.images:
        return []
    trained_on = ", ".join(f"{count:,} of {found.held_out[name]:,} {name}" for name, count in found.trained_on.items())
    text = f"{found.images:,} images occur more than once ({found.distinct:,} distinct)"
    return [("duplicates", f"{text}; held-out images that are also trained on: {trained_on}" if trained_on else text)]
