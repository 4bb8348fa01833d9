"""Figures of a report as a table on the screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from convae.evaluation import Report


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
        table.add_row(name, *figure.texts(), figure.unit)
    for name in report.left_out:
        table.add_row(name, "left out", "", "")
    if report.left_out:
        table.caption = "\n".join(f"{name}: {reason}" for name, reason in report.left_out.items())
        table.caption_justify = "left"
    return table
