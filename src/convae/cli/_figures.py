"""Figures of a report as a table on the screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from convae.evaluation import Report

LARGE_GAP, LARGE_FRACTION = 2.0, 0.1
"""The aggregate gap in nats, and as a fraction of the KL divergence, from which on samples suffer."""


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


def hint_of_gap(report: Report) -> str | None:
    """What helps samples where latents of images and the prior are far apart; None where they are not known to be."""
    gap, kl, information = (report.figures.get(name) for name in ("aggregate-gap", "kl", "mutual-information"))
    if kl is None or not isinstance(kl.value, float):
        return None
    far, how = 0.0, ""
    if gap is not None and isinstance(gap.value, float):
        far = gap.value
    elif information is not None and information.at_most is not None:
        far, how = kl.value - information.at_most, "up to "
    if far < max(LARGE_GAP, LARGE_FRACTION * kl.value):
        return None
    return (
        f"the latents of these images are {how}{far:.4g} nats from the prior, so samples from it may look worse than "
        "reconstructions: try convae sample --from fitted, or train with a larger weight of kl"
    )
