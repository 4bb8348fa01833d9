"""Cards as one self-contained HTML page."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from string import Template
from typing import TYPE_CHECKING, Any

from convae.evaluation.card.card import Card
from convae.evaluation.card.comparison import TableRow, reasons_left_out, table_rows
from convae.evaluation.card.names import card_title, unique_names
from convae.evaluation.page import embed_picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

CHANNELS = 64
"""Largest number of channels with a row each."""
OF_CHANNELS = ("latent-mean", "latent-std", "kl-per-channel")
"""Metrics with a value for each channel."""

PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
  h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
  .wide { overflow-x: auto; }
  table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
  th, td { padding: .25rem 1.2rem .25rem 0; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top; }
  th.number, td.number { text-align: right; } td.reason { overflow-wrap: anywhere; }
  tr.section th { padding-top: 1.1rem; border-bottom: 1px solid #888; }
  small { color: #555; white-space: nowrap; } .unit { color: #555; } b { font-weight: 650; }
  code { overflow-wrap: anywhere; } img { max-width: 100%; }
  pre { background: #f5f5f5; padding: 1rem; overflow-x: auto; }
</style>
<h1>$title</h1>
<div class="wide"><table>
$facts
</table></div>
$pictures
<h2>Metrics</h2>
<p>$note</p>
<div class="wide"><table>
$metrics
</table></div>
$channels
$left_out
<h2>Protocol</h2>
<p>Cards are comparable if their protocols are equal.</p>
<pre>$protocol</pre>
</html>
""")


def render_card_page(cards: Sequence[Card], pictures: Mapping[str, Image | Figure]) -> str:
    """Renders cards with one protocol as HTML, with a column for each.

    Args:
        cards: at least one.
        pictures: by title.
    """
    names = unique_names(cards)
    shown = [
        f'<h2>{_text(title)}</h2>\n<img alt="{_text(title)}" src="{embed_picture(picture)}">'
        for title, picture in pictures.items()
    ]
    return PAGE.substitute(
        title=_text(card_title(cards)),
        facts=_facts(cards, names),
        pictures="\n".join(shown),
        note="With 95% intervals" + ("; the best value of a row is bold." if len(cards) > 1 else "."),
        metrics=_metrics(cards, names),
        channels=_channels(cards, names),
        left_out=_left_out(cards),
        protocol=_text(json.dumps(cards[0].protocol, indent=2, ensure_ascii=False)),
    )


def _text(text: object) -> str:
    return html.escape(str(text))


def _head(first: str, names: Sequence[str], last: str = "") -> str:
    cells = "".join(f'<th class="number">{_text(name)}</th>' for name in names)
    return f"<tr><th>{_text(first)}</th>{cells}<th>{_text(last)}</th></tr>"


def _facts(cards: Sequence[Card], names: Sequence[str]) -> str:
    """Facts about the models, one model in a column."""
    labels = {
        "parameters": "parameters",
        "input": "input",
        "latent": "latent",
        "values_per_latent_value": "values per latent value",
        "bottleneck": "bottleneck",
        "likelihood": "likelihood",
        "prior": "prior",
        "sha256": "SHA-256 of the weights",
    }
    rows = [_head("", names)] if len(cards) > 1 else []
    for key, label in labels.items():
        cells = "".join(f'<td class="number">{_fact(key, card.model.get(key))}</td>' for card in cards)
        rows.append(f"<tr><th>{label}</th>{cells}<td></td></tr>")
    return "\n".join(rows)


def _fact(key: str, value: Any) -> str:
    if key == "sha256":
        return f"<code title='{_text(value)}'>{_text(str(value)[:12])}…</code>"
    if isinstance(value, list):
        return _text("×".join(map(str, value)))
    return _text(f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else value)


def _metrics(cards: Sequence[Card], names: Sequence[str]) -> str:
    rows = [_head("metric", names, "unit")]
    for title, own in table_rows(cards).items():
        rows.append(f'<tr class="section"><th colspan="{len(cards) + 2}">{title}</th></tr>')
        rows += [_metric(row) for row in own]
    return "\n".join(rows)


def _metric(row: TableRow) -> str:
    cells = []
    for number, measured in enumerate(row.measured):
        value, interval = ("–", "") if measured is None else measured.texts()
        value = f"<b>{_text(value)}</b>" if number == row.best else _text(value)
        cells.append(f'<td class="number">{value}{f"<br><small>{_text(interval)}</small>" if interval else ""}</td>')
    return f'<tr><td>{_text(row.name)}</td>{"".join(cells)}<td class="unit">{_text(row.unit_text)}</td></tr>'


def _channels(cards: Sequence[Card], names: Sequence[str]) -> str:
    """A table for each model of metrics by channel."""
    parts = []
    for card, name in zip(cards, names, strict=True):
        found = {key: card.metrics[key].value for key in OF_CHANNELS if key in card.metrics}
        columns = {key: value for key, value in found.items() if isinstance(value, list) and len(value) <= CHANNELS}
        if not columns:
            continue
        title = "Channels of the latent" + (f" of {name}" if len(cards) > 1 else "")
        rows = [_head("channel", list(columns))]
        for number, values in enumerate(zip(*columns.values(), strict=True)):
            cells = "".join(f'<td class="number">{"–" if each is None else f"{each:.4g}"}</td>' for each in values)
            rows.append(f"<tr><td>{number}</td>{cells}<td></td></tr>")
        parts.append(f"<h2>{_text(title)}</h2>\n<table>\n" + "\n".join(rows) + "\n</table>")
    return "\n".join(parts)


def _left_out(cards: Sequence[Card]) -> str:
    """The metrics that were not measured for any of the models, with the reasons."""
    rows = [
        f'<tr><td>{_text(", ".join(names))}</td><td class="reason">{_text(reason)}</td></tr>'
        for reason, names in reasons_left_out(cards).items()
    ]
    if not rows:
        return ""
    return "<h2>Not measured</h2>\n<table>\n" + "\n".join(rows) + "\n</table>"
