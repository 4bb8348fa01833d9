"""Export of a model as files that other runtimes run."""

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
from convae.interop.graphs import TracedGraph, graph, graph_names, trace_graph
from convae.model.artifact import fingerprint
from convae.model.vae import VAE

FORMAT = 1
TOLERANCE = 1e-4
"""The largest difference from torch that an export in float32 should have."""


@dataclass(frozen=True)
class Exported:
    """A written graph.

    Attributes:
        graph: its name.
        path: of the file.
        inputs: the shape of each input by name.
        difference: the largest difference of an output from torch's, divided by the largest value where that is
            above 1.
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
) -> Iterator[Exported]:
    """Writes the graphs of a model, one file each, and compares the outputs of each with those of torch.

    Every graph is traced before the first file is written.

    Args:
        model: on the CPU.
        folder: for the files, such as `decode.onnx`.
        exporter: name of the format.
        graphs: names of the graphs; by default all of the model, see `graph_names`.
        force: whether existing files may be replaced.

    Raises:
        ConfigError: there is no such exporter or graph, its runtime is missing, or a graph cannot be exported.
        OutputError: files exist and `force` is not set, or they cannot be written.
    """
    own: Exporter = EXPORTERS.get(exporter)()
    traced = [trace_graph(model, name) for name in dict.fromkeys(graphs or graph_names(model))]
    described = _describe(model)
    paths = begin_file_set(folder, [each.name + own.suffix for each in traced], force=force)
    for each, path in zip(traced, paths, strict=True):
        own.write(each, path, manifest(described, each))
        yield Exported(each.name, path, each.inputs, difference(model, each.name, own.open(path)))


def manifest(described: Mapping[str, Any], traced: TracedGraph) -> dict[str, Any]:
    """What a program has to know of an exported graph, as JSON: what the model is, and its inputs and outputs."""
    inputs = {
        name: {"shape": list(shape), "type": str(traced.examples[name].dtype).removeprefix("torch.")}
        for name, shape in traced.inputs.items()
    }
    return {**described, "graph": traced.name, "inputs": inputs, "outputs": list(traced.outputs)}


def _describe(model: VAE) -> dict[str, Any]:
    """The part of a manifest that is the same for all graphs of a model."""
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
def difference(model: VAE, name: str, run: Runner) -> float:
    """The largest difference of a graph's outputs from the model's, on a batch of another size than it was traced with.

    It is divided by the largest value of the output where that is above 1.

    Args:
        model: on the CPU.
        name: of the graph.
        run: the exported graph.
    """
    own = graph(model, name)
    inputs = {key: torch.cat([tensor, tensor[:1]]) for key, tensor in own.examples.items()}
    found, wanted = run(inputs), dict(zip(own.outputs, own.module(*inputs.values()), strict=True))
    differences = [0.0]
    for key, values in wanted.items():
        scale = max(1.0, float(values.double().abs().max()))
        differences.append(float((found[key].double() - values.double()).abs().max()) / scale)
    return max(differences)
