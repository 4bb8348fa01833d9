"""Exporter interfaces."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import torch
from torch import Tensor

from convae.core.file_sets import begin_file_set
from convae.core.files import write_bytes
from convae.interop.graphs import TracedGraph, build_graph, graph_names, trace_graph
from convae.interop.manifests import build_manifest, describe_model
from convae.interop.precision import ExportPrecision, ExportPrecisionName, Quality, measure_quality
from convae.model.vae import VAE

MANIFEST = "convae"
"""Key of the manifest in the metadata of an exported file."""
TOLERANCE = 1e-4
"""Largest expected difference between the outputs of an exported graph in float32 and those of torch."""
FLOAT32 = ExportPrecision()
Runner = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
"""An exported graph as a function from inputs by name to outputs by name, on the CPU."""


@dataclass(frozen=True)
class ExportedFile:
    """An exported file.

    Attributes:
        name: name of the graph, or `weights`.
        path: path of the file.
        inputs: shape of each input of a graph by name; a string is the name of a dynamic axis.
        difference: largest difference between its outputs and those of torch; see `max_difference`.
        notes: messages for the user, such as about parts of the model that were not exported.
        quality: what a graph of reduced precision loses; None in float32.
        companions: further files that belong to it.
    """

    name: str
    path: Path
    inputs: Mapping[str, tuple[int | str, ...]]
    difference: float
    notes: tuple[str, ...] = ()
    quality: Quality | None = None
    companions: tuple[Path, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of the file and its companions."""
        return sum(path.stat().st_size for path in (self.path, *self.companions))


class Exporter(ABC):
    """Exports a model to files of another project.

    Attributes:
        precisions: names of the precisions that it supports.
    """

    precisions: ClassVar[tuple[ExportPrecisionName, ...]] = ("float32",)

    @abstractmethod
    def export(
        self,
        model: VAE,
        folder: Path,
        *,
        graphs: Sequence[str] | None,
        force: bool,
        precision: ExportPrecision = FLOAT32,
    ) -> Iterator[ExportedFile]:
        """Exports a model, and compares each file with the model.

        Args:
            model: on the CPU.
            folder: folder for the files; created if missing.
            graphs: names of the graphs; None for all.
            force: whether to replace existing files.
            precision: of the graphs, one of `precisions`.

        Yields:
            Each file, once it is written and compared.

        Raises:
            ConfigError: the model cannot be exported.
            OutputError: files exist and `force` is False, or they cannot be written.
        """


class GraphExporter(Exporter):
    """Exports traced graphs to files of another runtime, one file per graph.

    Attributes:
        suffix: file extension, with the dot.
        companions: extensions of further files that `write` writes beside it.
    """

    suffix: ClassVar[str]
    companions: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def write(self, graph: TracedGraph, path: Path, manifest: Mapping[str, Any]) -> None:
        """Writes a graph to a file, with the manifest as JSON in the metadata.

        Args:
            graph: the traced graph.
            path: path of the file, which is written atomically.
            manifest: description of the model, the inputs and the outputs.

        Raises:
            ConfigError: a required package is not installed, or an operation is not supported.
        """

    @abstractmethod
    def open(self, path: Path) -> Runner:
        """Loads a file that `write` wrote as a function. The file is trusted.

        Raises:
            ConfigError: the runtime is not installed, or cannot load the file.
        """

    @abstractmethod
    def read_manifest(self, path: Path) -> dict[str, Any]:
        """Reads the manifest of a file that `write` wrote."""

    def write_reduced(
        self, graph: TracedGraph, path: Path, precision: ExportPrecisionName, inputs: Mapping[str, Tensor]
    ) -> None:
        """Writes a graph of reduced precision, without a manifest; only exporters with several `precisions` need it.

        Args:
            graph: the traced graph, in float32.
            path: path of the file.
            precision: one of `precisions` other than float32.
            inputs: inputs to calibrate with, by name.

        Raises:
            ConfigError: a required package is not installed, or an operation is not supported.
        """
        raise NotImplementedError

    def write_manifest(self, path: Path, manifest: Mapping[str, Any]) -> None:
        """Sets the manifest of a file of reduced precision."""
        raise NotImplementedError

    def export(
        self,
        model: VAE,
        folder: Path,
        *,
        graphs: Sequence[str] | None,
        force: bool,
        precision: ExportPrecision = FLOAT32,
    ) -> Iterator[ExportedFile]:
        """Exports graphs; see `Exporter.export`. All graphs are traced before the first file is written."""
        names = list(dict.fromkeys(graphs or graph_names(model)))
        inputs = {} if precision.name == "float32" else {name: precision.inputs(model, name) for name in names}
        traced = [trace_graph(model, name) for name in names]
        facts = describe_model(model)
        suffixes = (self.suffix, *self.companions)
        paths = begin_file_set(folder, [each.name + suffix for each in traced for suffix in suffixes], force=force)
        for each, path in zip(traced, paths[:: len(suffixes)], strict=True):
            manifest = build_manifest(facts, each)
            quality = None
            if precision.name == "float32":
                self.write(each, path, manifest)
            else:
                with TemporaryDirectory(prefix="convae-") as place:
                    draft = Path(place) / path.name
                    self.write_reduced(each, draft, precision.name, inputs[each.name])
                    quality = measure_quality(model, each.name, precision, self.open(draft))
                    self.write_manifest(draft, {**manifest, "precision": precision.name, "quality": asdict(quality)})
                    for suffix in reversed(suffixes):
                        write_bytes(path.with_suffix(suffix), draft.with_suffix(suffix).read_bytes())
            difference = max_difference(model, each.name, self.open(path))
            companions = tuple(path.with_suffix(suffix) for suffix in self.companions)
            yield ExportedFile(each.name, path, each.inputs, difference, quality=quality, companions=companions)


@torch.no_grad()
def max_difference(model: VAE, name: str, run: Runner) -> float:
    """The largest absolute difference between the outputs of an exported graph and those of the model.

    The batch is larger than the one that the graph was traced with; see `largest_difference`.

    Args:
        model: on the CPU.
        name: name of the graph.
        run: the exported graph.
    """
    graph = build_graph(model, name)
    inputs = {key: torch.cat([tensor, tensor[:1]]) for key, tensor in graph.examples.items()}
    return largest_difference(run(inputs), dict(zip(graph.outputs, graph.module(*inputs.values()), strict=True)))


def largest_difference(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """The largest absolute difference of outputs by name; relative to the largest value of an output that exceeds 1."""
    differences = [0.0]
    for key, values in expected.items():
        scale = max(1.0, float(values.double().abs().max()))
        differences.append(float((found[key].double() - values.double()).abs().max()) / scale)
    return max(differences)
