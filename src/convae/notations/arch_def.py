"""The `arch_def` dictionary: input, latent, and lists of (channels, kernel, strides).

    arch_def = {"input": (128, 96, 3), "latent": 64, "encode": [(32, 3, (2, 2)), (64, 3, (2, 2))], "decode": None}

The encoder is a sequence of `same` convolutions with ReLU, followed by a linear map to the latent. The decoder is a
linear map with ReLU, a sequence of transposed convolutions with ReLU, and a convolution of kernel 3 to the channels of
the image. Without a `decode` list the encoder is mirrored, to exactly the sizes of the input.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any

from convae.core.arguments import Named, PerAxis, Positive, shape_written_as
from convae.core.config import Config, parse
from convae.core.description import MAX_PARAMETERS, LayerSpec, MostParameters, Name, Spec
from convae.core.errors import ConfigError
from convae.core.names import count_text, one_line, short_repr
from convae.core.sizes import ceilings, output_padding
from convae.core.types import Shape

Convolution = tuple[int, int | Shape, int | Shape]
"""Channels, kernel, strides."""
ROW = "a list of (channels, kernel, strides)"


class Written(Config):
    """The three values of a convolution."""

    channels: Positive
    kernel: PerAxis
    strides: PerAxis


class ArchDef(Config):
    """The keys of an `arch_def`.

    Attributes:
        input: sizes, then channels.
        latent: dimension of the latent.
        encode: the encoder's convolutions.
        decode: the decoder's transposed convolutions; None for a mirror of the encoder.
        name: name of the model.
        likelihood: p(x | z).
        max_parameters: limit of the number of parameters.
    """

    input: Annotated[
        tuple[Positive, ...], shape_written_as("one to three sizes and then channels, such as (28, 28, 1)")
    ]
    latent: Positive
    encode: Any
    decode: Any = None
    name: Name = "arch-def"
    likelihood: Named = "bernoulli"
    max_parameters: MostParameters = MAX_PARAMETERS


def read_arch_def(
    data: Mapping[str, Any], source: str, count_raw_channels: Callable[[Named, Shape], int]
) -> dict[str, Any]:
    """Reads the dictionary into a description with plain lists of layers.

    Args:
        data: the dictionary.
        source: its location for messages.
        count_raw_channels: number of output channels of a decoder, from the likelihood and the shape of the input.

    Raises:
        ConfigError: invalid keys or values.
    """
    given = parse(ArchDef, data, source)
    shape = (given.input[-1], *given.input[:-1])
    encode = _read_row(given.encode, "encode", len(shape) - 1, source, ROW)
    decode = encode[::-1]
    if given.decode is not None:
        decode = _read_row(given.decode, "decode", len(shape) - 1, source, f"{ROW}, or None (null in YAML and JSON)")
    sizes = shape[1:]
    for conv in encode:
        sizes = ceilings(sizes, _strides_per_axis(conv, len(sizes)))
    first = (encode[-1][0], *sizes)
    encoder: list[Any] = []
    for index, conv in enumerate(encode):
        encoder += [_layer("conv", _arguments(conv), f", from encode[{index}]", conv), "relu"]
    decoder: list[Any] = [{"linear": {"features": math.prod(first)}}, "relu", {"unflatten": {"to": list(first)}}]
    for index, (conv, padding) in enumerate(zip(decode, _output_paddings(decode, shape, first), strict=True)):
        where = f"decode[{index}]" if given.decode else f"encode[{len(decode) - 1 - index}], mirrored"
        decoder += [_layer("conv-transpose", {**_arguments(conv), **padding}, f", from {where}", conv), "relu"]
    raw = count_raw_channels(given.likelihood, shape)
    return {
        "name": given.name,
        "input": shape,
        "encoder": [*encoder, "flatten"],
        "bottleneck": {"gaussian": {"latent": given.latent}},
        "decoder": [*decoder, _layer("conv", {"channels": raw}, f", after {where}", conv)],
        "likelihood": given.likelihood,
        "max_parameters": given.max_parameters,
    }


def _layer(name: str, arguments: dict[str, Any], place: str, conv: Convolution) -> LayerSpec:
    """A layer with the text of the convolution that it comes from."""
    return LayerSpec(name, arguments, place, str(conv)[1:-1])


def _arguments(conv: Convolution) -> dict[str, Any]:
    channels, kernel, strides = conv
    return {"channels": channels, "kernel": kernel, "stride": strides}


def _read_row(written: Any, side: str, axes: int, source: str, wanted: str) -> list[Convolution]:
    """Reads a list of convolutions; messages quote the convolution as written."""
    if not isinstance(written, list | tuple) or not written:
        raise ConfigError(f"{source}.{side}: expected {wanted}, got {short_repr(written)}")
    row: list[Convolution] = []
    for index, values in enumerate(written):
        if not isinstance(values, list | tuple):
            raise ConfigError(
                f"{source}.{side}[{index}]: expected (channels, kernel, strides), got {short_repr(values)}"
            )
        where = f"{source}.{side}[{index}] {short_repr(values)}"
        if len(values) != 3:
            raise ConfigError(f"{where}: expected (channels, kernel, strides), got {count_text(len(values), 'value')}")
        found = parse(Written, dict(zip(Written.model_fields, values, strict=True)), where)
        if not isinstance(found.strides, int) and len(found.strides) != axes:
            raise ConfigError(f"{where}: expected one stride or {axes}, one per size, got {len(found.strides)}")
        row.append((found.channels, found.kernel, found.strides))
    return row


def _strides_per_axis(conv: Convolution, axes: int) -> Shape:
    """The stride along each axis."""
    strides = conv[2]
    return (strides,) * axes if isinstance(strides, int) else strides


def _output_paddings(decode: Sequence[Convolution], shape: Shape, first: Shape) -> list[dict[str, Any]]:
    """The output padding of each transposed convolution; empty if the strides do not lead back to the input's sizes."""
    strides = [_strides_per_axis(conv, len(shape) - 1) for conv in decode]
    trace = [shape[1:]]
    for steps in reversed(strides):
        trace.append(ceilings(trace[-1], steps))
    if trace[-1] != first[1:]:
        # No padding fits; the shape check of the model reports the mismatch.
        return [{}] * len(decode)
    pairs = zip(trace[:0:-1], trace[-2::-1], strides, strict=True)
    return [{"output_padding": output_padding(small, large, steps)} for small, large, steps in pairs]


def read_python(text: str, source: str) -> dict[str, Any]:
    """Reads the dictionary that Python source assigns to `arch_def`, or its only one; the source is not executed.

    Raises:
        ConfigError: not valid Python, or no dictionary of literals is assigned.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f" line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise ConfigError(f"{source}{line}: not valid Python ({one_line(getattr(error, 'msg', error))})") from error
    assigned = {
        target.id: statement.value
        for statement in tree.body
        if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None
        for target in (statement.targets if isinstance(statement, ast.Assign) else [statement.target])
        if isinstance(target, ast.Name)
    }
    value = assigned.get("arch_def")
    if value is None:
        found = [value for value in assigned.values() if isinstance(value, ast.Dict)]
        if len(found) != 1:
            raise ConfigError(
                f"{source}: expected arch_def = {{…}} or a single dictionary, found {len(found)} dictionaries"
            )
        (value,) = found
    if not isinstance(value, ast.Dict):
        raise ConfigError(f"{source} line {value.lineno}: arch_def must be a literal {{…}}, got {_quote(value, text)}")
    return dict(_literal(value, text, source))


def _literal(node: ast.expr, text: str, source: str) -> Any:
    """The value of a literal expression; an error names the part that is not a literal."""
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError, MemoryError) as error:
        parts = [*node.keys, *node.values] if isinstance(node, ast.Dict) else getattr(node, "elts", [])
        for part in filter(None, parts):
            _literal(part, text, source)
        where = f"{source} line {node.lineno}"
        raise ConfigError(
            f"{where}: {_quote(node, text)} is not a literal, and the file is not executed. Write the value itself"
        ) from error


def _quote(node: ast.expr, text: str) -> str:
    """The source of an expression on one line."""
    return one_line(ast.get_source_segment(text, node))


def propose_arch_defs(spec: Spec) -> Iterator[dict[str, Any]]:
    """Candidate dictionaries for a model, the shortest first; the caller checks which describes the same network."""
    encode, decode = _list_convolutions(spec.encoder, "conv"), _list_convolutions(spec.decoder, "conv-transpose")
    if not encode or not decode:
        return
    written = {
        "input": (*spec.input[1:], spec.input[0]),
        "latent": _latent(spec),
        "encode": encode,
        "decode": None,
        "name": spec.name,
    }
    if spec.likelihood not in ("bernoulli", {"bernoulli": {}}):
        written["likelihood"] = spec.likelihood
    if spec.max_parameters != MAX_PARAMETERS:
        written["max_parameters"] = spec.max_parameters
    yield written
    yield {**written, "decode": decode}


def write_python(arch_def: Mapping[str, Any]) -> str:
    """Python source that assigns the dictionary."""
    lines = [f"    {key!r}: {value!r}," for key, value in arch_def.items()]
    return "\n".join(["arch_def = {", *lines, "}", ""])


def _latent(spec: Spec) -> Any:
    given = spec.bottleneck.get("gaussian") if isinstance(spec.bottleneck, dict) else None
    return (given or {}).get("latent")


def _list_convolutions(layers: Sequence[LayerSpec], name: str) -> list[tuple[Any, Any, Any]]:
    """(channels, kernel, strides) of the layers with this name."""
    found = [layer.arguments for layer in layers if layer.name == name]
    return [(conv["channels"], conv.get("kernel", 3), conv.get("stride", 1)) for conv in found]
