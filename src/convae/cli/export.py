"""`convae export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convae.cli._options import Force, Model

PANEL = "Share"
"""The heading under which the help lists the command."""


def export(
    model: Model,
    out: Annotated[Path, typer.Option("--out", help="Output folder.", show_default=False)],
    to: Annotated[str, typer.Option("--to", help="Format: onnx, torch-export or diffusers.")] = "onnx",
    graph: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this graph: encode, decode, decode-codes, reconstruct or sample; may be given several times.",
            show_default="all of the model",
        ),
    ] = None,
    force: Force = False,
) -> None:
    """Write encode, decode, reconstruct and sample as graphs that run without convae, or weights for diffusers.

    Each graph is one file with named inputs and outputs, a free batch size and a manifest. Its outputs are compared
    with those of torch. ONNX needs the extra `export`. `--to diffusers` writes a folder that `from_pretrained` loads,
    of models with the layers of one of its autoencoders.

    Example: `convae export RUN --to onnx --out exported`
    """
    from convae.cli._screen import notes, results, wrote
    from convae.interop import export_model
    from convae.interop.exporters.base import TOLERANCE
    from convae.latents import Session

    opened = Session(model, device="cpu").model
    for each in export_model(opened, out, to, graphs=graph, force=force):
        shapes = ", ".join(f"{name} {'×'.join(map(str, shape))}" for name, shape in each.inputs.items()) or each.name
        results.print(
            f"{each.path.name}: {shapes}; {each.path.stat().st_size / 1e3:,.0f} kB; differs from torch by at most "
            f"{each.difference:.1e}",
            soft_wrap=True,
        )
        for note in each.notes:
            notes.print(note)
        if not each.difference <= TOLERANCE:
            notes.print(f"{each.path.name}: differs from torch by more than {TOLERANCE:g}", style="yellow")
    wrote(out)
