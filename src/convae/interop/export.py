"""Export of a model to files for other runtimes and projects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from convae.interop.exporters import EXPORTERS
from convae.interop.exporters.base import ExportedFile, Exporter
from convae.model.vae import VAE


def export_model(
    model: VAE,
    folder: Path,
    exporter: str = "onnx",
    *,
    graphs: Sequence[str] | None = None,
    force: bool = False,
) -> Iterator[ExportedFile]:
    """Exports a model, and compares each file with the model.

    `onnx` and `torch-export` write one file per graph, and compare its outputs with those of torch; `diffusers` writes
    a configuration and weights.

    Args:
        model: on the CPU.
        folder: folder for the files, such as `decode.onnx`.
        exporter: name of the exporter.
        graphs: names of the graphs; by default all that `graph_names` lists.
        force: whether to replace existing files.

    Yields:
        Each file, once it is written and compared.

    Raises:
        ConfigError: unknown exporter or graph, the runtime is not installed, or the model cannot be exported.
        OutputError: files exist and `force` is False, or they cannot be written.
    """
    target: Exporter = EXPORTERS.get(exporter)()
    yield from target.export(model, folder, graphs=graphs, force=force)
