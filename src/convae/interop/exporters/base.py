"""Exporter interface: writes traced graphs to files of another runtime, and runs them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from convae.interop.graphs import TracedGraph

MANIFEST = "convae"
"""Key of the manifest in the metadata of an exported file."""
Runner = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
"""An exported graph as a function from inputs by name to outputs by name, on the CPU."""


class Exporter(ABC):
    """Writes traced graphs to files of another runtime.

    Attributes:
        suffix: file extension, with the dot.
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
        """Reads the manifest of a file that `write` wrote."""
