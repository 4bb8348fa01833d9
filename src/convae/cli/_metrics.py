"""The metrics of a report as a table on the screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from convae.evaluation import Report

LARGE_GAP, LARGE_FRACTION = 2.0, 0.1
"""Aggregate gap in nats, and as a fraction of the KL divergence, from which on samples suffer."""


def metrics_table(report: Report) -> Table:
    """The metrics of a report with their confidence intervals."""
    table = Table(title=report.title)
    table.title_justify = "left"
    table.add_column("metric")
    for name in ("value", "95% interval"):
        table.add_column(name, justify="right")
    table.add_column("unit")
    for name, measurement in report.metrics.items():
        table.add_row(name, *measurement.texts(), measurement.unit)
    for name in report.left_out:
        table.add_row(name, "left out", "", "")
    if report.left_out:
        table.caption = "\n".join(f"{name}: {reason}" for name, reason in report.left_out.items())
        table.caption_justify = "left"
    return table


def prior_gap_hint(report: Report) -> str | None:
    """What to try where the aggregate posterior is far from the prior; None where it is not known to be."""
    gap, kl, information = (report.metrics.get(name) for name in ("aggregate-gap", "kl", "mutual-information"))
    if kl is None or not isinstance(kl.value, float):
        return None
    distance, how = 0.0, ""
    if gap is not None and isinstance(gap.value, float):
        distance = gap.value
    elif information is not None and information.at_most is not None:
        distance, how = kl.value - information.at_most, "up to "
    if distance < max(LARGE_GAP, LARGE_FRACTION * kl.value):
        return None
    return (
        f"the aggregate posterior of these images is {how}{distance:.4g} nats from the prior, so samples may look "
        "worse than reconstructions: fit a prior (convae prior RUN gmm), or train with a larger KL weight"
    )
