"""Exporter interface: a traced graph to a file of another runtime, and that file as a function."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from convae.interop.graphs import TracedGraph

MANIFEST = "convae"
"""The key of the manifest in the metadata of an exported file."""
Runner = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
"""An exported graph as a function: inputs by name to outputs by name."""


class Exporter(ABC):
    """Writes traced graphs as files of another runtime.

    Attributes:
        suffix: of its files, with the dot.
    """

    suffix: ClassVar[str]

    @abstractmethod
    def write(self, graph: TracedGraph, path: Path, manifest: Mapping[str, Any]) -> None:
        """Writes a graph, with its manifest as JSON inside the file.

        Raises:
            ConfigError: the runtime is not installed, or the graph holds an operation that it does not know.
        """

    @abstractmethod
    def open(self, path: Path) -> Runner:
        """The function of a file that `write` wrote; trusted, as it is the user's own.

        Raises:
            ConfigError: the runtime is not installed, or cannot run the file.
        """

    @abstractmethod
    def read_manifest(self, path: Path) -> dict[str, Any]:
        """The manifest of a file that `write` wrote."""
