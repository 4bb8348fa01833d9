"""ONNX, for onnxruntime and all that reads it."""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from convae.core.errors import ConfigError
from convae.core.files import replacing
from convae.core.names import one_line
from convae.interop.exporters.base import MANIFEST, Exporter, Runner
from convae.interop.graphs import TracedGraph

if TYPE_CHECKING:
    import onnx as onnx_package


class Onnx(Exporter):
    """ONNX files, by `torch.onnx`: one graph each, with named inputs and outputs and a free batch size."""

    suffix: ClassVar = ".onnx"

    def write(self, graph: TracedGraph, path: Path, manifest: Mapping[str, Any]) -> None:
        """Writes a graph; see `Exporter.write`. The manifest is in the file's metadata."""
        model = to_onnx(graph)
        model.metadata_props.add(key=MANIFEST, value=json.dumps(manifest))
        with replacing(path) as place:
            place.write_bytes(model.SerializeToString())

    def open(self, path: Path) -> Runner:
        """The graph in onnxruntime, on the CPU."""
        session = _session(path)
        outputs = [each.name for each in session.get_outputs()]

        def run(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
            found = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
            return {name: torch.from_numpy(values) for name, values in zip(outputs, found, strict=True)}

        return run

    def read_manifest(self, path: Path) -> dict[str, Any]:
        """The manifest in the file's metadata."""
        found: dict[str, Any] = json.loads(_session(path).get_modelmeta().custom_metadata_map[MANIFEST])
        return found


def to_onnx(graph: TracedGraph) -> onnx_package.ModelProto:
    """A graph as ONNX, with the names of its inputs, outputs and axes.

    Raises:
        ConfigError: the packages are missing, or the graph holds an operation that ONNX does not know.
    """
    try:
        for package in "onnx", "onnxscript":  # `torch.onnx` would say nothing of the extra
            importlib.import_module(package)
    except ImportError as error:
        raise _missing(error) from error
    try:
        with _quiet():
            program = torch.onnx.export(
                graph.program,
                (),
                dynamo=True,
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                verbose=False,
                custom_translation_table=_translations(),
            )
        assert program is not None
        model: onnx_package.ModelProto = program.model_proto
    except Exception as error:  # the converter raises many types
        raise ConfigError(f"graph '{graph.name}': cannot be written as ONNX: {_reason(error)}") from error
    _name_axes(model, graph)
    _drop_traces(model)
    return model


def _translations() -> dict[Any, Any]:
    """Operations that `torch.onnx` does not translate, in those of ONNX."""
    from onnxscript import opset18 as op
    from onnxscript.onnx_types import DOUBLE, FLOAT, INT64

    def searchsorted(ends: DOUBLE[...], values: DOUBLE[...], right: bool = False) -> INT64[...]:
        """The number of ends that are below each value; equal ones count where `right` is set."""
        own = op.Unsqueeze(values, [-1])
        below = op.LessOrEqual(ends, own) if right else op.Less(ends, own)
        return op.ReduceSum(op.Cast(below, to=INT64.dtype), [-1], keepdims=0)

    def prod(values: INT64[...], dims: Sequence[int]) -> INT64[...]:
        """The product along some axes, into which `torch.cumprod` is decomposed."""
        return op.ReduceProd(values, dims, keepdims=0)

    def erf(values: DOUBLE[...]) -> DOUBLE[...]:
        """The error function in float32, as onnxruntime has it; it chooses the component of a mixture."""
        return op.Cast(op.Erf(op.Cast(values, to=FLOAT.dtype)), to=DOUBLE.dtype)

    return {
        torch.ops.aten.searchsorted.Tensor: searchsorted,
        torch.ops.prims.prod.default: prod,
        torch.ops.aten.erf.default: erf,
    }


def _reason(error: Exception) -> str:
    """What a converter's exception says of the cause: the operation that ONNX does not have, or its first words."""
    found = re.search(r"No ONNX function found for <OpOverload\(op='([\w.]+)'", str(error))
    return f"it has no operation {found[1]}" if found else one_line(error)[:300]


def _session(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise _missing(error) from error
    try:
        return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has exceptions of its own
        raise ConfigError(f"{path}: onnxruntime cannot run it: {one_line(error)[:300]}") from error


def _missing(error: ImportError) -> ConfigError:
    return ConfigError(f"ONNX needs the package {error.name}: pip install 'convae[export]'")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences the converter's own warnings, which concern neither the user nor the model."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _name_axes(model: onnx_package.ModelProto, graph: TracedGraph) -> None:
    """Names the free axes of inputs, and of outputs where they are those of an input."""
    names: dict[str, str] = {}
    for value in model.graph.input:
        for dim, name in zip(value.type.tensor_type.shape.dim, graph.inputs[value.name], strict=True):
            if dim.dim_param and isinstance(name, str):
                names[dim.dim_param] = name
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = re.sub(r"\w+", lambda found: names.get(found[0], found[0]), dim.dim_param)


def _drop_traces(model: onnx_package.ModelProto) -> None:
    """Removes what the converter notes on each node, such as the paths of source files on this machine."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info, *model.graph.initializer):
        del value.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.metadata_props[:]
