"""Figures of a report as a table on the screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from convae.evaluation import Report
    from convae.evaluation.protocol import Value


def table(report: Report) -> Table:
    """The figures of a report with their intervals, under what they were measured on."""
    data, model = report.protocol["data"], report.protocol["model"]
    table = Table(title=f"{model['name']} on {data['count']:,} {data['source']} images ({data['split']})")
    table.title_justify = "left"
    table.add_column("figure")
    for name in ("value", "95% interval"):
        table.add_column(name, justify="right")
    table.add_column("unit")
    for name, figure in report.figures.items():
        low, high = figure.interval or (None, None)
        between = f"{_text(low)} … {_text(high)}" if isinstance(figure.value, float) and figure.interval else ""
        table.add_row(name, _text(figure.value), between, figure.unit)
    return table


def _text(value: Value) -> str:
    """A figure with five digits; of several, the smallest and the largest."""
    if isinstance(value, list):
        known = [part for part in value if part is not None]
        return f"{min(known):.3g} … {max(known):.3g} ({len(value)})" if known else "none"
    return "none" if value is None else f"{value:.5g}"
