"""ONNX files, for onnxruntime and other runtimes."""

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
from convae.interop.exporters.base import MANIFEST, GraphExporter, Runner
from convae.interop.graphs import TracedGraph
from convae.interop.precision import ExportPrecisionName

if TYPE_CHECKING:
    import onnx as onnx_package

_CALIBRATION_BATCH = 16


class Onnx(GraphExporter):
    """ONNX by `torch.onnx`: one graph per file, with named inputs and outputs and a dynamic batch size."""

    suffix: ClassVar = ".onnx"
    precisions: ClassVar = ("float32", "float16", "int8")

    def write(self, graph: TracedGraph, path: Path, manifest: Mapping[str, Any]) -> None:
        """Writes a graph; see `GraphExporter.write`."""
        model = to_onnx(graph)
        model.metadata_props.add(key=MANIFEST, value=json.dumps(manifest))
        with replacing(path) as place:
            place.write_bytes(model.SerializeToString())

    def open(self, path: Path) -> Runner:
        """Loads a graph into onnxruntime, on the CPU, with as many threads as torch has."""
        session = _session(path)
        outputs = [each.name for each in session.get_outputs()]

        def run(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
            found = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
            return {name: torch.from_numpy(values) for name, values in zip(outputs, found, strict=True)}

        return run

    def write_reduced(
        self, graph: TracedGraph, path: Path, precision: ExportPrecisionName, inputs: Mapping[str, Tensor]
    ) -> None:
        """Writes a graph; see `GraphExporter.write_reduced`. Inputs and outputs remain float32."""
        self.write(graph, path, {})
        try:
            with _quiet():
                _to_int8(path, inputs) if precision == "int8" else _to_float16(path)
        except ImportError as error:
            raise _missing_package(error) from error
        except Exception as error:  # onnxruntime raises its own exceptions
            raise ConfigError(f"{path.name}: cannot be reduced to {precision}: {one_line(error)[:300]}") from error

    def write_manifest(self, path: Path, manifest: Mapping[str, Any]) -> None:
        """Sets the metadata of a file, and removes that of the quantization."""
        import onnx

        model = onnx.load(str(path))
        del model.metadata_props[:]
        model.metadata_props.add(key=MANIFEST, value=json.dumps(manifest))
        path.write_bytes(model.SerializeToString())

    def read_manifest(self, path: Path) -> dict[str, Any]:
        """Reads the manifest from the model's metadata."""
        found: dict[str, Any] = json.loads(_session(path).get_modelmeta().custom_metadata_map[MANIFEST])
        return found


def to_onnx(graph: TracedGraph) -> onnx_package.ModelProto:
    """Converts a graph to ONNX, with names of inputs, outputs and dynamic axes.

    Raises:
        ConfigError: a package is not installed, or ONNX does not support an operation.
    """
    try:
        for package in "onnx", "onnxscript":  # the error of `torch.onnx` does not name the extra
            importlib.import_module(package)
    except ImportError as error:
        raise _missing_package(error) from error
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
        _rename_inner_values(program.model.graph)
        model: onnx_package.ModelProto = program.model_proto
    except Exception as error:  # the converter raises exceptions of many types
        raise ConfigError(f"graph '{graph.name}': cannot be exported to ONNX: {_reason(error)}") from error
    _name_axes(model, graph)
    _remove_metadata(model)
    return model


def _to_float16(path: Path) -> None:
    """Converts weights and operations to float16."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = convert_float_to_float16(onnx.load(str(path)), keep_io_types=True)
    path.write_bytes(model.SerializeToString())


def _to_int8(path: Path, inputs: Mapping[str, Tensor]) -> None:
    """Quantizes convolutions and matrix products: weights per channel, activations by their range on the inputs."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Batches(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
        """The inputs in batches."""

        def __init__(self) -> None:
            count = len(next(iter(inputs.values())))
            self._batches = iter(
                {name: tensor[start : start + _CALIBRATION_BATCH].numpy() for name, tensor in inputs.items()}
                for start in range(0, count, _CALIBRATION_BATCH)
            )

        def get_next(self) -> Any:
            return next(self._batches, None)

    quantize_static(
        str(path),
        str(path),
        Batches(),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv", "ConvTranspose", "Gemm", "MatMul"],
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
    )


def _translations() -> dict[Any, Any]:
    """Translations of operations that `torch.onnx` does not support."""
    from onnxscript import opset18 as op
    from onnxscript.onnx_types import DOUBLE, FLOAT, INT64

    def searchsorted(ends: DOUBLE[...], values: DOUBLE[...], right: bool = False) -> INT64[...]:
        """The number of ends below each value, or at most equal to it if `right`."""
        column = op.Unsqueeze(values, [-1])
        below = op.LessOrEqual(ends, column) if right else op.Less(ends, column)
        return op.ReduceSum(op.Cast(below, to=INT64.dtype), [-1], keepdims=0)

    def prod(values: INT64[...], dims: Sequence[int]) -> INT64[...]:
        """Product along axes; a decomposition of `torch.cumprod` uses it."""
        return op.ReduceProd(values, dims, keepdims=0)

    def erf(values: DOUBLE[...]) -> DOUBLE[...]:
        """Error function in float32, since onnxruntime has none in float64; mixture priors choose components by it."""
        return op.Cast(op.Erf(op.Cast(values, to=FLOAT.dtype)), to=DOUBLE.dtype)

    return {
        torch.ops.aten.searchsorted.Tensor: searchsorted,
        torch.ops.prims.prod.default: prod,
        torch.ops.aten.erf.default: erf,
    }


def _reason(error: Exception) -> str:
    """The unsupported operation in an exception of the converter, or else its first line."""
    found = re.search(r"No ONNX function found for <OpOverload\(op='([\w.]+)'", str(error))
    return f"operation {found[1]} is not supported" if found else one_line(error)[:300]


def _session(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise _missing_package(error) from error
    try:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own exceptions
        raise ConfigError(f"{path}: onnxruntime cannot load it: {one_line(error)[:300]}") from error


def _missing_package(error: ImportError) -> ConfigError:
    return ConfigError(f"ONNX needs the package {error.name}: pip install 'convae[export]'")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences warnings of the converters, which are about their own implementation."""
    loggers = [logging.getLogger("torch.onnx"), logging.getLogger()]  # quantization uses the root logger
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _rename_inner_values(graph: Any) -> None:
    """Gives other names to values inside of a graph that are called like one of its inputs or outputs.

    The converter names values after operations, such as `mean`.
    """
    ends = [*graph.inputs, *graph.outputs]
    names = {value.name for value in ends}
    for node in graph.all_nodes():
        for value in node.outputs:
            if value.name in names and not any(value is end for end in ends):
                value.name = f"{value.name}_inside"


def _name_axes(model: onnx_package.ModelProto, graph: TracedGraph) -> None:
    """Names the dynamic axes of inputs, and those of other values that depend on them."""
    names: dict[str, str] = {}
    for value in model.graph.input:
        for dim, name in zip(value.type.tensor_type.shape.dim, graph.inputs[value.name], strict=True):
            if dim.dim_param and isinstance(name, str):
                names[dim.dim_param] = name
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = re.sub(r"\w+", lambda found: names.get(found[0], found[0]), dim.dim_param)


def _remove_metadata(model: onnx_package.ModelProto) -> None:
    """Removes metadata that the converter adds, such as stack traces with local paths."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info, *model.graph.initializer):
        del value.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.metadata_props[:]
