"""Export of a model as files that other runtimes run or other projects read."""

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
    """Writes a model in another format, and compares what was written with the model.

    Formats of graphs write one file each, and compare their outputs with those of torch; `diffusers` writes a folder
    with configuration and weights.

    Args:
        model: on the CPU.
        folder: for the files, such as `decode.onnx`.
        exporter: name of the format.
        graphs: names of the graphs; by default all of the model, see `graph_names`.
        force: whether existing files may be replaced.

    Raises:
        ConfigError: there is no such exporter or graph, its runtime is missing, or the model cannot be exported.
        OutputError: files exist and `force` is not set, or they cannot be written.
    """
    own: Exporter = EXPORTERS.get(exporter)()
    yield from own.export(model, folder, graphs=graphs, force=force)
