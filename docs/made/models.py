"""What presets and descriptions become: sizes, counts, and the same model in every notation."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from convae.cli.show import engineering
from convae.core.names import shape_text
from convae.core.registry import Registry
from convae.describe import resolve, write
from convae.model.construct import construct
from convae.model.presets import PRESETS
from convae.model.summary import summarize
from convae.pictures.save import save
from convae.pictures.structure import draw_structure
from made.tables import table
from made.values import value_in_words


def presets() -> str:
    """One row for each preset, and for each choice that it offers by name: shapes, parameters, FLOPs per image."""
    head = ["preset", "input", "features", "latent", "decoder's output", "parameters", "FLOPs per image"]
    return table(head, [_row(name, given) for name in PRESETS.names() for given in _choices(PRESETS, name)])


def _choices(entries: Registry, name: str) -> Iterator[dict[str, Any]]:
    """No argument, then every value of those that have a few, one at a time."""
    yield {}
    function = entries.get(name)
    hints = typing.get_type_hints(function)
    for argument, parameter in inspect.signature(function).parameters.items():
        if typing.get_origin(hints[argument]) is Literal:
            others = [choice for choice in typing.get_args(hints[argument]) if choice != parameter.default]
            yield from ({argument: choice} for choice in others)


def _row(name: str, given: dict[str, Any]) -> list[str]:
    model = construct(resolve({"preset": name, **given}))
    rows = summarize(model)
    encoder, decoder = model.networks["encoder"], model.networks["decoder"]
    shapes = (model.input_shape, encoder.shape_out, model.latent_shape, decoder.shape_out)
    chosen = "".join(f", {value_in_words(argument)[:-1]}: {value}`" for argument, value in given.items())
    link = f"[`{name}`](#preset-{name}){chosen}"
    parameters, operations = sum(row.parameters for row in rows), sum(row.flops for row in rows)
    return [link, *map(shape_text, shapes), f"{parameters:,}", engineering(operations)]


DRAWINGS = Path(__file__).parents[1] / "_build" / "drawings"
"""Where drawings lie while the pages are made."""


def drawing(name: str) -> str:
    """A picture of a preset's structure, as `convae show --draw` draws it.

    Args:
        name: of the preset.
    """
    model = construct(resolve(name))
    path = save(draw_structure(summarize(model), input_shape=model.input_shape, title=name), DRAWINGS / f"{name}.svg")
    return f"![The structure of {name}](/{path.relative_to(DRAWINGS.parents[1])})"


LANGUAGES = {"yaml": "yaml", "arch-def": "python", "codes": "json"}
"""What the notations are written in."""


def notation(description: Any, *names: str) -> str:
    """The same model in several notations.

    Args:
        description: whatever `convae.build` takes.
        names: of the notations.
    """
    spec = resolve(description)
    return "\n".join(
        f"`--as {name}`:\n\n```{LANGUAGES.get(name, 'text')}\n{write(spec, name).rstrip()}\n```\n" for name in names
    )
