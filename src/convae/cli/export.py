"""`convae export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from convae.cli._options import DataDir, Force, MissingLabel, Model
from convae.core.names import count_text

if TYPE_CHECKING:
    from convae.interop import ExportPrecision
    from convae.interop.exporters.base import ExportedFile
    from convae.interop.precision import ExportPrecisionName
    from convae.latents import Session

PANEL = "Share"
"""The heading under which the help lists the command."""


def export(
    model: Model,
    out: Annotated[Path, typer.Option("--out", help="Output folder.", show_default=False)],
    to: Annotated[str, typer.Option("--to", help="Format: onnx, torch-export, openvino or diffusers.")] = "onnx",
    graph: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this graph: encode, decode, decode-codes, reconstruct or sample; may be given several times.",
            show_default="all of the model",
        ),
    ] = None,
    precision: Annotated[
        Literal["float32", "float16", "int8"],
        typer.Option("--precision", help="Of onnx and openvino; below float32, the loss is measured on images."),
    ] = "float32",
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            help="Images for float16 and int8: a data set's name or a folder.",
            show_default="test images of the training data",
        ),
    ] = None,
    data_dir: DataDir = None,
    label: MissingLabel = None,
    count: Annotated[
        int, typer.Option("--count", min=8, help="Images that int8 is calibrated and the loss is measured on.")
    ] = 128,
    force: Force = False,
) -> None:
    """Write encode, decode, reconstruct and sample as graphs that run without convae, or weights for diffusers.

    Each graph is one file with named inputs and outputs, a free batch size and a manifest. Its outputs are compared
    with those of torch. ONNX needs the extra `export`, OpenVINO `openvino`. `--to diffusers` writes a folder that
    `from_pretrained` loads, of models with the layers of one of its autoencoders.

    `--precision float16` and `int8` make the files of onnx and openvino smaller. Ranges of int8 are calibrated on
    images; what each graph loses in PSNR is printed, and written to the manifest.

    Example: `convae export RUN --to onnx --out exported`
    """
    from convae.cli._parsing import data_source
    from convae.cli._screen import work_bar, wrote
    from convae.interop import ExportPrecision
    from convae.interop.export import iterate_exports
    from convae.latents import Session

    chosen = ExportPrecision(precision)
    with work_bar() as bar:
        session = Session(
            model,
            data=None if data is None else data_source(data, "--data"),
            data_dir=data_dir,
            missing_label=label,
            device="cpu",
            progress=bar,
        )
        if precision != "float32":
            chosen = _calibrated_on(session, precision, count)
    for each in iterate_exports(session.model, out, to, graphs=graph, force=force, precision=chosen):
        _report(each, precision)
    wrote(out)


def _report(each: ExportedFile, precision: ExportPrecisionName) -> None:
    """Prints a file, its inputs, and how much it differs from torch."""
    from convae.cli._screen import notes, results
    from convae.interop.exporters.base import TOLERANCE

    shapes = ", ".join(f"{name} {'×'.join(map(str, shape))}" for name, shape in each.inputs.items()) or each.name
    results.print(
        f"{each.path.name}: {shapes}; {each.size / 1e3:,.0f} kB; differs from torch by at most {each.difference:.1e}",
        soft_wrap=True,
    )
    for note in each.notes:
        notes.print(note)
    if each.quality is not None:
        loss = "" if each.quality.psnr_loss is None else f"; reconstructions lose {each.quality.psnr_loss:.2f} dB"
        results.print(
            f"  {precision}: {each.quality.psnr:.1f} dB PSNR to float32{loss}, on "
            f"{count_text(each.quality.count, 'image')}",
            soft_wrap=True,
        )
    elif not each.difference <= TOLERANCE:
        notes.print(f"{each.path.name}: differs from torch by more than {TOLERANCE:g}", style="yellow")


def _calibrated_on(session: Session, precision: ExportPrecisionName, count: int) -> ExportPrecision:
    """A precision with evenly spaced images of a session."""
    import torch

    from convae.data import in_order
    from convae.data.image_set import evenly_spaced
    from convae.interop import ExportPrecision

    images = session.images
    positions = evenly_spaced(len(images), min(count, len(images)))
    batch = next(in_order(images, len(positions), torch.device("cpu"), positions))
    return ExportPrecision(precision, batch.images, batch.labels)
