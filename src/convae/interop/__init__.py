"""Import of checkpoints of other projects, and export to other runtimes."""

from __future__ import annotations

from convae.interop.base import (
    ImportedModel,
    model_from_weights,
    require_known_tensors,
    require_tensors,
    square_side,
    unbounded_gaussian,
)
from convae.interop.checkpoints import import_model
from convae.interop.engines import EngineChoice, Trial, choose_engine
from convae.interop.export import export_model
from convae.interop.exporters import EXPORTERS
from convae.interop.exporters.base import ExportedFile, Exporter, GraphExporter
from convae.interop.graph_engine import GraphEngine
from convae.interop.graphs import TracedGraph, graph_names, trace_graph
from convae.interop.importers import IMPORTERS
from convae.interop.precision import ExportPrecision, Quality
from convae.interop.pretrained import PulledModel
from convae.interop.pull import pull_model
from convae.interop.push import PushedModel, push_model

__all__ = [
    "EXPORTERS",
    "IMPORTERS",
    "EngineChoice",
    "ExportPrecision",
    "ExportedFile",
    "Exporter",
    "GraphEngine",
    "GraphExporter",
    "ImportedModel",
    "PulledModel",
    "PushedModel",
    "Quality",
    "TracedGraph",
    "Trial",
    "choose_engine",
    "export_model",
    "graph_names",
    "import_model",
    "model_from_weights",
    "pull_model",
    "push_model",
    "require_known_tensors",
    "require_tensors",
    "square_side",
    "trace_graph",
    "unbounded_gaussian",
]
