"""Programs of `torch.export`, for torch without convae, AOTInductor and ExecuTorch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from convae.core.files import replacing
from convae.interop.exporters.base import MANIFEST, GraphExporter, Runner
from convae.interop.graphs import TracedGraph

_FILE = f"{MANIFEST}.json"


class TorchExport(GraphExporter):
    """`.pt2` archives of `torch.export`, which torch runs without convae."""

    suffix: ClassVar = ".pt2"

    def write(self, graph: TracedGraph, path: Path, manifest: Mapping[str, Any]) -> None:
        """Writes a graph; see `GraphExporter.write`. The manifest is `convae.json` in the archive."""
        names = {"inputs": list(graph.inputs), "outputs": list(graph.outputs)}
        with replacing(path) as place, place.open("wb") as file:
            torch.export.save(graph.program, file, extra_files={_FILE: json.dumps({**manifest, "order": names})})

    def open(self, path: Path) -> Runner:
        """Loads a graph with torch, on the CPU."""
        extra = {_FILE: ""}
        with path.open("rb") as file:
            program = torch.export.load(file, extra_files=extra)
        order, module = json.loads(extra[_FILE])["order"], program.module()

        def run(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
            with torch.no_grad():
                found = module(*(inputs[name] for name in order["inputs"]))
            return dict(zip(order["outputs"], found, strict=True))

        return run

    def read_manifest(self, path: Path) -> dict[str, Any]:
        """Reads the manifest from the archive."""
        extra = {_FILE: ""}
        with path.open("rb") as file:
            torch.export.load(file, extra_files=extra)
        found: dict[str, Any] = json.loads(extra[_FILE])
        return found
