"""Export of a model to files for other runtimes and projects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from convae.core.errors import ConfigError
from convae.core.paths import local_path
from convae.interop.exporters import EXPORTERS
from convae.interop.exporters.base import FLOAT32, ExportedFile, Exporter
from convae.interop.precision import ExportPrecision
from convae.model.vae import VAE


def export_model(
    model: VAE,
    folder: str | Path,
    exporter: str = "onnx",
    *,
    graphs: Sequence[str] | None = None,
    force: bool = False,
    precision: ExportPrecision = FLOAT32,
) -> list[ExportedFile]:
    """Exports a model, and compares each file with the model.

    `onnx` and `torch-export` write one file per graph, and compare its outputs with those of torch; `diffusers` writes
    a configuration and weights.

    Args:
        model: on the CPU.
        folder: folder for the files, such as `decode.onnx`.
        exporter: name of the exporter.
        graphs: names of the graphs; by default all that `graph_names` lists.
        force: whether to replace existing files.
        precision: of the graphs; below float32, with images to calibrate and to measure the loss on.

    Returns:
        The files, in the order in which they were written.

    Raises:
        ConfigError: unknown exporter, graph or precision, too few images, the runtime is not installed, or the model
            cannot be exported.
        OutputError: files exist and `force` is False, or they cannot be written.
    """
    return list(iterate_exports(model, local_path(folder), exporter, graphs=graphs, force=force, precision=precision))


def iterate_exports(
    model: VAE,
    folder: Path,
    exporter: str,
    *,
    graphs: Sequence[str] | None,
    force: bool,
    precision: ExportPrecision,
) -> Iterator[ExportedFile]:
    """Yields each file of `export_model`, once it is written and compared."""
    target: Exporter = EXPORTERS.get(exporter)()
    if precision.name not in target.precisions:
        names = ", ".join(target.precisions)
        raise ConfigError(f"exporter {exporter}: {precision.name} is not supported. Use {names}, or the exporter onnx")
    yield from target.export(model, folder, graphs=graphs, force=force, precision=precision)
