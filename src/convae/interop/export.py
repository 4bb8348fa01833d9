"""Export of a model to files for other runtimes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from convae.core.file_sets import begin_file_set
from convae.core.names import class_names
from convae.core.version import VERSION
from convae.interop.exporters import EXPORTERS
from convae.interop.exporters.base import Exporter, Runner
from convae.interop.graphs import TracedGraph, build_graph, graph_names, trace_graph
from convae.model.artifact import fingerprint
from convae.model.vae import VAE

FORMAT = 1
TOLERANCE = 1e-4
"""Largest expected difference between the outputs of an exported graph in float32 and those of torch."""


@dataclass(frozen=True)
class ExportedGraph:
    """An exported graph.

    Attributes:
        graph: its name, such as `decode`.
        path: path of the file.
        inputs: shape of each input by name; a string is the name of a dynamic axis.
        difference: largest difference between its outputs and those of torch; see `max_difference`.
    """

    graph: str
    path: Path
    inputs: Mapping[str, tuple[int | str, ...]]
    difference: float


def export_model(
    model: VAE,
    folder: Path,
    exporter: str = "onnx",
    *,
    graphs: Sequence[str] | None = None,
    force: bool = False,
) -> Iterator[ExportedGraph]:
    """Exports the graphs of a model, one file each, and compares the outputs of each file with those of torch.

    All graphs are traced before the first file is written.

    Args:
        model: on the CPU.
        folder: folder for the files, such as `decode.onnx`.
        exporter: name of the format.
        graphs: names of the graphs; by default all that `graph_names` lists.
        force: whether to replace existing files.

    Yields:
        Each graph, once it is written and compared.

    Raises:
        ConfigError: unknown exporter or graph, the runtime is not installed, or a graph cannot be exported.
        OutputError: files exist and `force` is False, or they cannot be written.
    """
    target: Exporter = EXPORTERS.get(exporter)()
    traced = [trace_graph(model, name) for name in dict.fromkeys(graphs or graph_names(model))]
    facts = _describe_model(model)
    paths = begin_file_set(folder, [each.name + target.suffix for each in traced], force=force)
    for each, path in zip(traced, paths, strict=True):
        target.write(each, path, _build_manifest(facts, each))
        yield ExportedGraph(each.name, path, each.inputs, max_difference(model, each.name, target.open(path)))


def _build_manifest(facts: Mapping[str, Any], traced: TracedGraph) -> dict[str, Any]:
    """The JSON manifest of an exported graph: facts about the model, and the inputs and outputs."""
    inputs = {
        name: {"shape": list(shape), "type": str(traced.examples[name].dtype).removeprefix("torch.")}
        for name, shape in traced.inputs.items()
    }
    return {**facts, "graph": traced.name, "inputs": inputs, "outputs": list(traced.outputs)}


def _describe_model(model: VAE) -> dict[str, Any]:
    """The part of the manifest that is equal for all graphs of a model."""
    names = model.provenance.classes
    count = model.class_count or len(names or ())
    return {
        "format": FORMAT,
        "convae": VERSION,
        "model": model.name,
        "sha256": fingerprint(model),
        "image": {"shape": list(model.input_shape), "range": [0.0, 1.0], "normalization": None},
        "size_step": None if model.size_step is None else list(model.size_step),
        "latent_layout": [{"name": name, "shape": list(shape)} for name, shape in model.latent_layout.entries],
        "codebook_sizes": {each.stream: list(each.codebook_sizes) for each in model.latent_modules},
        "classes": list(class_names(range(count), names).values()),
        "is_conditional": model.condition is not None,
    }


@torch.no_grad()
def max_difference(model: VAE, name: str, run: Runner) -> float:
    """The largest absolute difference between the outputs of an exported graph and those of the model.

    For an output whose largest value exceeds 1, the difference is relative to that value. The batch is larger than the
    one that the graph was traced with.

    Args:
        model: on the CPU.
        name: name of the graph.
        run: the exported graph.
    """
    graph = build_graph(model, name)
    inputs = {key: torch.cat([tensor, tensor[:1]]) for key, tensor in graph.examples.items()}
    found, expected = run(inputs), dict(zip(graph.outputs, graph.module(*inputs.values()), strict=True))
    differences = [0.0]
    for key, values in expected.items():
        scale = max(1.0, float(values.double().abs().max()))
        differences.append(float((found[key].double() - values.double()).abs().max()) / scale)
    return max(differences)
