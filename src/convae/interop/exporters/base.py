"""Exporter interface: a model to files of another project, such as a traced graph and that file as a function."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from convae.core.file_sets import begin_file_set
from convae.interop.graphs import TracedGraph, build_graph, graph_names, trace_graph
from convae.interop.manifests import describe_model, manifest
from convae.model.vae import VAE

MANIFEST = "convae"
"""The key of the manifest in the metadata of an exported file."""
TOLERANCE = 1e-4
"""The largest difference from torch that an export in float32 should have."""
Runner = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
"""An exported graph as a function: inputs by name to outputs by name."""


@dataclass(frozen=True)
class ExportedFile:
    """A written file.

    Attributes:
        name: of the graph, or `weights`.
        path: of the file.
        inputs: the shape of each input of a graph by name.
        difference: the largest difference of an output from torch's, divided by the largest value where that is
            above 1.
        notes: what a person should know, a sentence each, such as a part of the model that was left out.
    """

    name: str
    path: Path
    inputs: Mapping[str, tuple[int | str, ...]]
    difference: float
    notes: tuple[str, ...] = ()


class Exporter(ABC):
    """Writes a model for another project."""

    @abstractmethod
    def export(self, model: VAE, folder: Path, *, graphs: Sequence[str] | None, force: bool) -> Iterator[ExportedFile]:
        """Writes the files of a model into a folder, and compares them with the model.

        Args:
            model: on the CPU.
            folder: created if missing.
            graphs: names of the graphs; None for all.
            force: whether existing files may be replaced.

        Raises:
            ConfigError: the model cannot be exported.
            OutputError: files exist and `force` is not set, or they cannot be written.
        """


class GraphExporter(Exporter):
    """Writes traced graphs as files of another runtime, one each.

    Attributes:
        suffix: of its files, with the dot.
    """

    suffix: ClassVar[str]

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
        """The manifest of a file that `write` wrote."""

    def export(self, model: VAE, folder: Path, *, graphs: Sequence[str] | None, force: bool) -> Iterator[ExportedFile]:
        """Writes the graphs of a model; see `Exporter.export`. All are traced before the first file is written."""
        traced = [trace_graph(model, name) for name in dict.fromkeys(graphs or graph_names(model))]
        described = describe_model(model)
        paths = begin_file_set(folder, [each.name + self.suffix for each in traced], force=force)
        for each, path in zip(traced, paths, strict=True):
            self.write(each, path, manifest(described, each))
            yield ExportedFile(each.name, path, each.inputs, max_difference(model, each.name, self.open(path)))


@torch.no_grad()
def max_difference(model: VAE, name: str, run: Runner) -> float:
    """The largest difference of a graph's outputs from the model's, on a batch of another size than it was traced with.

    It is divided by the largest value of the output where that is above 1.

    Args:
        model: on the CPU.
        name: of the graph.
        run: the exported graph.
    """
    own = build_graph(model, name)
    inputs = {key: torch.cat([tensor, tensor[:1]]) for key, tensor in own.examples.items()}
    found, wanted = run(inputs), dict(zip(own.outputs, own.module(*inputs.values()), strict=True))
    differences = [0.0]
    for key, values in wanted.items():
        scale = max(1.0, float(values.double().abs().max()))
        differences.append(float((found[key].double() - values.double()).abs().max()) / scale)
    return max(differences)
