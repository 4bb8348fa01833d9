"""OpenVINO models, for CPUs, GPUs and NPUs of Intel, and ARM CPUs."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import torch
from torch import Tensor

from convae.core.errors import ConfigError
from convae.core.files import write_bytes
from convae.core.names import one_line
from convae.interop.exporters.base import MANIFEST, GraphExporter, Runner
from convae.interop.exporters.onnx import to_onnx
from convae.interop.graphs import TracedGraph

_WEIGHTS = ".bin"


class OpenVINO(GraphExporter):
    """OpenVINO by way of ONNX: `.xml` and `.bin` for each graph, with named inputs and outputs and free sizes."""

    suffix: ClassVar = ".xml"
    companions: ClassVar = (_WEIGHTS,)

    def write(self, graph: TracedGraph, path: Path, manifest: Mapping[str, Any]) -> None:
        """Writes a graph; see `GraphExporter.write`. The manifest is in the runtime information."""
        openvino = _import()
        content = to_onnx(graph).SerializeToString()
        with TemporaryDirectory(prefix="convae-") as place:
            draft = Path(place) / path.name
            try:
                model = openvino.Core().read_model(content)
                model.set_rt_info(json.dumps(manifest), [MANIFEST])
                openvino.save_model(model, str(draft), compress_to_fp16=False)
            except Exception as error:  # OpenVINO raises its own exceptions
                raise ConfigError(
                    f"graph '{graph.name}': cannot be exported to OpenVINO: {one_line(error)[:300]}"
                ) from error
            for suffix in (_WEIGHTS, self.suffix):
                write_bytes(path.with_suffix(suffix), draft.with_suffix(suffix).read_bytes())

    def open(self, path: Path) -> Runner:
        """Compiles a graph for the CPU, in float32, with as many threads as torch has."""
        openvino = _import()
        try:
            options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
            compiled = openvino.Core().compile_model(str(path), "CPU", options)
        except Exception as error:  # OpenVINO raises its own exceptions
            raise ConfigError(f"{path}: OpenVINO cannot load it: {one_line(error)[:300]}") from error

        def run(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
            found = compiled({name: tensor.numpy() for name, tensor in inputs.items()})
            # A tensor that is two outputs has both names.
            return {
                name: torch.from_numpy(found[output].copy())
                for output in compiled.outputs
                for name in output.get_names()
            }

        return run

    def read_manifest(self, path: Path) -> dict[str, Any]:
        """Reads the manifest from the runtime information."""
        found: dict[str, Any] = json.loads(_import().Core().read_model(str(path)).get_rt_info([MANIFEST]).astype(str))
        return found


def _import() -> Any:
    """The module of OpenVINO.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module("openvino")
    except ImportError as error:
        raise ConfigError("OpenVINO is not installed. Run pip install 'convae[openvino]'") from error
