"""Other projects: `importers` read their checkpoints, `exporters` write graphs that their runtimes run."""

from __future__ import annotations

from convae.interop.base import Imported, filled, needed, side_of, unbounded, unknown_left
from convae.interop.checkpoints import import_model
from convae.interop.export import Exported, export_model
from convae.interop.exporters import EXPORTERS
from convae.interop.exporters.base import Exporter
from convae.interop.graphs import TracedGraph, graph_names, trace_graph
from convae.interop.importers import IMPORTERS

__all__ = [
    "EXPORTERS",
    "IMPORTERS",
    "Exported",
    "Exporter",
    "Imported",
    "TracedGraph",
    "export_model",
    "filled",
    "graph_names",
    "import_model",
    "needed",
    "side_of",
    "trace_graph",
    "unbounded",
    "unknown_left",
]
