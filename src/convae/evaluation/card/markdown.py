"""Cards as Markdown with the front matter of model hubs: the README.md of a published model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import yaml

from convae.core.names import escape_controls
from convae.evaluation.card.card import Card
from convae.evaluation.card.comparison import TableRow, reasons_left_out, table_rows
from convae.evaluation.card.names import card_title, unique_names
from convae.model.card import LIBRARY, TAGS, markdown_cell, plain_markdown

TASK = {"type": "image-reconstruction", "name": "Image reconstruction"}
"""The task of all results, in the form of model hubs."""


def card_markdown(cards: Sequence[Card], *, picture: str | None = None) -> str:
    """Markdown of cards with one protocol: front matter with `model-index`, description, metrics and protocol.

    Args:
        cards: at least one; of a single one, the description of the model comes first.
        picture: path of the picture of the comparison, relative to the file.
    """
    names = unique_names(cards)
    title = f"# {plain_markdown(card_title(cards))}\n"
    about = cards[0].about if len(cards) == 1 else ""
    best = "; the best value of a row is bold" if len(cards) > 1 else ""
    parts = [_front_matter(cards, names), about or title]
    parts.append(f"## Evaluation\n\n{plain_markdown(card_title(cards))}. With 95% intervals{best}.\n")
    if picture is not None:
        parts.append(f"![Reconstructions, error maps and enlarged crops]({picture})\n")
    parts += [_table(title, rows, names) for title, rows in table_rows(cards).items()]
    if left_out := reasons_left_out(cards):
        rows = [f"| {markdown_cell(', '.join(own))} | {markdown_cell(reason)} |" for reason, own in left_out.items()]
        parts.append("\n".join(["### Not measured", "", "| | |", "|---|---|", *rows, ""]))
    protocol = json.dumps(cards[0].protocol, indent=2)  # ASCII; no line of it ends the block
    parts.append(f"### Protocol\n\nCards are comparable if their protocols are equal.\n\n```json\n{protocol}\n```\n")
    return "\n".join(parts)


def _front_matter(cards: Sequence[Card], names: Sequence[str]) -> str:
    """YAML; what users named is quoted by the serializer."""
    content = {"library_name": LIBRARY, "tags": list(TAGS), "model-index": [*map(_results, cards, names)]}
    return f"---\n{yaml.safe_dump(content, sort_keys=False, width=1000)}---\n"


def _results(card: Card, name: str) -> dict[str, Any]:
    """The single values of a card as results of a hub."""
    data = card.protocol["data"]
    source = _one_line(data.get("source"))
    metrics = [
        {"type": metric, "name": f"{metric} ({measured.unit})", "value": measured.value}
        for metric, measured in card.metrics.items()
        if isinstance(measured.value, float) and measured.at_most is None
    ]
    dataset = {"type": source, "name": source, "split": _one_line(data.get("split"))}
    return {"name": _one_line(name), "results": [{"task": dict(TASK), "dataset": dataset, "metrics": metrics}]}


def _one_line(text: object) -> str:
    """Text on one line: a line of its own with `---` would end the front matter."""
    return escape_controls(" ".join(str(text).split()))


def _table(title: str, rows: Sequence[TableRow], names: Sequence[str]) -> str:
    head = [f"### {title}", "", f"| metric | {' | '.join(map(markdown_cell, names))} | unit |"]
    lines = [f"| {markdown_cell(row.name)} | {_cells(row)} | {markdown_cell(row.unit_text)} |" for row in rows]
    return "\n".join([*head, f"|---|{'---:|' * len(names)}---|", *lines, ""])


def _cells(row: TableRow) -> str:
    found = []
    for number, measured in enumerate(row.measured):
        value, interval = ("", "") if measured is None else measured.texts()
        text = markdown_cell(value)
        text = f"**{text}**" if number == row.best else text
        found.append(f"{text} ({markdown_cell(interval)})" if interval else text)
    return " | ".join(found)
