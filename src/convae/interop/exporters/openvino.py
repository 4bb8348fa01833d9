"""OpenVINO models, for CPUs, GPUs and NPUs of Intel, and ARM CPUs."""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import torch
from torch import Tensor

from convae.core.errors import ConfigError, ConvaeError
from convae.core.files import write_bytes
from convae.core.names import one_line
from convae.interop.exporters.base import MANIFEST, GraphExporter, Runner
from convae.interop.exporters.onnx import Onnx, to_onnx
from convae.interop.graphs import TracedGraph
from convae.interop.precision import ExportPrecisionName

_WEIGHTS = ".bin"


class OpenVINO(GraphExporter):
    """OpenVINO by way of ONNX: `.xml` and `.bin` for each graph, with named inputs and outputs and free sizes."""

    suffix: ClassVar = ".xml"
    companions: ClassVar = (_WEIGHTS,)
    precisions: ClassVar = ("float32", "float16", "int8")

    def write(self, graph: TracedGraph, path: Path, manifest: Mapping[str, Any]) -> None:
        """Writes a graph; see `GraphExporter.write`. The manifest is in the runtime information."""
        openvino = _import()
        content = to_onnx(graph).SerializeToString()
        with _errors(f"graph '{graph.name}': cannot be exported to OpenVINO"):
            _save(openvino.Core().read_model(content), path, manifest)

    def write_reduced(
        self, graph: TracedGraph, path: Path, precision: ExportPrecisionName, inputs: Mapping[str, Tensor]
    ) -> None:
        """Writes a graph; see `GraphExporter.write_reduced`.

        float16 are the weights alone; int8 is that of ONNX.
        """
        openvino = _import()
        with TemporaryDirectory(prefix="convae-") as place:
            source = Path(place) / f"{graph.name}.onnx"
            if precision == "int8":
                Onnx().write_reduced(graph, source, precision, inputs)
            else:
                Onnx().write(graph, source, {})
            with _errors(f"graph '{graph.name}': cannot be reduced to {precision} for OpenVINO"):
                _save(openvino.Core().read_model(str(source)), path, {}, is_float16=precision == "float16")

    def write_manifest(self, path: Path, manifest: Mapping[str, Any]) -> None:
        """Sets the runtime information."""
        with _errors(f"{path}: OpenVINO cannot read it"):
            _save(_import().Core().read_model(str(path)), path, manifest)

    def open(self, path: Path) -> Runner:
        """Compiles a graph, or an ONNX file, for the CPU in float32, with as many threads as torch has."""
        openvino = _import()
        options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        with _errors(f"{path}: OpenVINO cannot load it"):
            compiled = openvino.Core().compile_model(str(path), "CPU", options)

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


def _save(model: Any, path: Path, manifest: Mapping[str, Any], *, is_float16: bool = False) -> None:
    """Writes a model of OpenVINO and its weights, each atomically.

    Args:
        model: the model, whose runtime information is changed.
        path: of the `.xml`.
        manifest: for the runtime information.
        is_float16: whether to convert weights of float32 to float16.
    """
    model.set_rt_info(json.dumps(manifest), [MANIFEST])
    with TemporaryDirectory(prefix="convae-") as place:
        draft = Path(place) / path.name
        _import().save_model(model, str(draft), compress_to_fp16=is_float16)
        for suffix in (_WEIGHTS, path.suffix):
            write_bytes(path.with_suffix(suffix), draft.with_suffix(suffix).read_bytes())


@contextlib.contextmanager
def _errors(what: str) -> Iterator[None]:
    """Exceptions of OpenVINO as a `ConfigError`."""
    try:
        yield
    except ConvaeError:
        raise
    except Exception as error:  # OpenVINO raises its own exceptions
        raise ConfigError(f"{what}: {one_line(error)[:300]}") from error


def _import() -> Any:
    """The module of OpenVINO.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module("openvino")
    except ImportError as error:
        raise ConfigError("OpenVINO is not installed. Run pip install 'convae[openvino]'") from error
