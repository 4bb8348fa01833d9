"""`convae models`."""

from __future__ import annotations

import typer

PANEL = "Start"
"""The heading under which the help lists the command."""
SHOWN = {"elbo": "ELBO", "nll": "NLL", "psnr": "PSNR", "ssim": "SSIM"}
"""Metrics in the list, and their headings."""


def models(
    markdown: bool = typer.Option(False, "--markdown", help="Print a Markdown table."),
) -> None:
    """List the pretrained models with metrics of the test images, size, and whether they are on this machine.

    Every command and `convae.load` take their names. `convae pull NAME` gets one. ELBO and NLL are in nats per image,
    PSNR in dB.

    Example: `convae models`
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from convae.cli._screen import results
    from convae.core.names import shape_text
    from convae.model.pretrained import find_pretrained, read_index

    head = ["name", "what it is", "input", "latent", *SHOWN.values(), "MB", "here"]
    rows = []
    for name, model in read_index().items():
        metrics = [f"{model.metrics[key]:.4g}" if key in model.metrics else "" for key in SHOWN]
        here = "no" if find_pretrained(name) is None else "yes"
        shapes = (shape_text(model.input), shape_text(model.latent))
        rows.append([name, model.description, *shapes, *metrics, f"{model.size / 1e6:.2f}", here])
    if markdown:
        lines = [head, ["---", "---", *["---:"] * (len(head) - 3), "---"], *rows]
        results.print("\n".join(f"| {' | '.join(line)} |" for line in lines), soft_wrap=True)
        return
    table = Table(box=SIMPLE_HEAD)
    for place, title in enumerate(head):
        is_number = 1 < place < len(head) - 1
        table.add_column(title, justify="right" if is_number else "left", no_wrap=place != 1)
    for row in rows:
        table.add_row(*row)
    results.print(table)
