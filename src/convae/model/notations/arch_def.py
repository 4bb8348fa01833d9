"""The `arch_def` dictionary: input, latent, and lists of (channels, kernel, strides).

    arch_def = {"input": (128, 96, 3), "latent": 64, "encode": [(32, 3, (2, 2)), (64, 3, (2, 2))], "decode": None}

The encoder is a row of `same` convolutions, each with a ReLU; a dense map goes to the latent, a dense map and a
ReLU come back from it; the decoder is a row of transposed convolutions, each with a ReLU, and a last 3-convolution
to the image's channels. Without a `decode` list the encoder is mirrored, to exactly the input's sizes.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from convae.core.arguments import ImageShape, Named, PerAxis, Positive
from convae.core.config import Config, parse
from convae.core.errors import ConfigError
from convae.core.types import Shape
from convae.model.description import MAX_PARAMETERS, MostParameters, Spec
from convae.model.mirror import ceilings, output_padding, raw_channels
from convae.model.network import Translated
from convae.model.vae import VAE

Convolution = tuple[Positive, PerAxis, PerAxis]
"""Channels, kernel, strides."""


class ArchDef(Config):
    """The dictionary.

    Attributes:
        input: sizes, then channels.
        latent: latent values.
        encode: the encoder's convolutions.
        decode: the decoder's transposed convolutions; None for a mirror of the encoder.
        name: what the model is called.
        likelihood: what the decoder's values mean.
        max_parameters: the largest number of parameters that is not taken for a mistake.
    """

    input: ImageShape
    latent: Positive
    encode: Annotated[list[Convolution], Field(min_length=1)]
    decode: Annotated[list[Convolution], Field(min_length=1)] | None = None
    name: str = "arch-def"
    likelihood: Named = "bernoulli"
    max_parameters: MostParameters = MAX_PARAMETERS


def from_arch_def(data: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The dictionary as a description with lists of layers.

    Raises:
        ConfigError: keys or values are wrong.
    """
    given = parse(ArchDef, data, source)
    shape = (given.input[-1], *given.input[:-1])
    decode = given.encode[::-1] if given.decode is None else given.decode
    sizes = list(shape[1:])
    for index, (_, _, strides) in enumerate(given.encode):
        steps = _per_axis(strides, len(sizes), f"{source}: encode {index}")
        sizes = [-(-size // step) for size, step in zip(sizes, steps, strict=True)]
    first = (given.encode[-1][0], *sizes)
    encoder: list[Any] = []
    for index, conv in enumerate(given.encode):
        encoder += [Translated({"conv": _written(conv)}, f"layer of encode {index} {conv}"), "relu"]
    decoder: list[Any] = [{"linear": {"features": math.prod(first)}}, "relu", {"unflatten": {"to": list(first)}}]
    added = _added(decode, shape, first, source)
    for index, (conv, more) in enumerate(zip(decode, added, strict=True)):
        where = f"decode {index} {conv}" if given.decode else f"encode {len(decode) - 1 - index} {conv}, mirrored"
        decoder += [Translated({"conv-transpose": {**_written(conv), **more}}, f"layer of {where}"), "relu"]
    last = {"conv": {"channels": raw_channels(given.likelihood, shape)}}
    return {
        "name": given.name,
        "input": shape,
        "encoder": [*encoder, "flatten"],
        "bottleneck": {"gaussian": {"latent": given.latent}},
        "decoder": [*decoder, Translated(last, f"layer behind {where}")],
        "likelihood": given.likelihood,
        "max_parameters": given.max_parameters,
    }


def _written(conv: Convolution) -> dict[str, Any]:
    channels, kernel, strides = conv
    return {"channels": channels, "kernel": kernel, "stride": strides}


def _per_axis(value: int | tuple[int, ...], axes: int, where: str) -> tuple[int, ...]:
    """One stride for each axis."""
    steps = (value,) * axes if isinstance(value, int) else value
    if len(steps) != axes:
        raise ConfigError(f"{where}: has {len(steps)} strides, needs one or {axes}, one for each size of the input")
    return steps


def _added(decode: Sequence[Convolution], shape: Shape, first: Shape, source: str) -> list[dict[str, Any]]:
    """The output padding of each transposed convolution, where the strides lead back to the input's sizes."""
    axes = len(shape) - 1
    strides = [_per_axis(conv[2], axes, f"{source}: decode {index}") for index, conv in enumerate(decode)]
    trace = [shape[1:]]
    for steps in reversed(strides):
        trace.append(ceilings(trace[-1], steps))
    if trace[-1] != first[1:]:
        # No padding leads back; the network says where its sizes end and what the input needs.
        return [{}] * len(decode)
    pairs = zip(trace[:0:-1], trace[-2::-1], strides, strict=True)
    return [{"output_padding": output_padding(small, large, steps)} for small, large, steps in pairs]


def read_python(text: str, source: str) -> dict[str, Any]:
    """The dictionary that a Python file assigns to a name; nothing in the file is run.

    Raises:
        ConfigError: the file is no Python, or assigns no dictionary of plain values.
    """
    try:
        tree = ast.parse(text)
        found = [
            ast.literal_eval(statement.value)
            for statement in tree.body
            if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Dict)
        ]
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise ConfigError(f"{source}: holds no dictionary of plain values ({error})") from error
    if len(found) != 1:
        raise ConfigError(f"{source}: needs one assignment of a dictionary, such as arch_def = {{…}}, has {len(found)}")
    return dict(found[0])


def arch_def(spec: Spec) -> str:
    """A model as Python source that assigns the dictionary.

    Raises:
        ConfigError: the model is not of the one structure that the dictionary can describe.
    """
    decode = _listed(spec.decoder, "conv-transpose")
    written = {
        "input": (*spec.input[1:], spec.input[0]),
        "latent": _latent(spec),
        "encode": _listed(spec.encoder, "conv"),
        "decode": decode,
        "name": spec.name,
    }
    if spec.likelihood not in ("bernoulli", {"bernoulli": {}}):
        written["likelihood"] = spec.likelihood
    if spec.max_parameters != MAX_PARAMETERS:
        written["max_parameters"] = spec.max_parameters
    mirrored = {**written, "decode": None}
    stored = VAE(spec).spec if written["encode"] and decode else None
    for way in (mirrored, written):
        if stored is not None and _describes(way, stored):
            lines = [f"    {key!r}: {value!r}," for key, value in way.items()]
            return "\n".join(["arch_def = {", *lines, "}", ""])
    raise ConfigError(
        f"model '{spec.name}' cannot be written as an arch_def, which knows only rows of convolutions with ReLU "
        "around dense maps: use --as yaml"
    )


def _describes(way: dict[str, Any], stored: Spec) -> bool:
    """Whether the dictionary describes the model of this stored form."""
    try:
        return VAE(parse(Spec, from_arch_def(way, "arch_def"), "arch_def")).spec == stored
    except ConfigError:
        return False


def _latent(spec: Spec) -> Any:
    given = spec.bottleneck.get("gaussian") if isinstance(spec.bottleneck, dict) else None
    return (given or {}).get("latent")


def _listed(layers: list[Any], kind: str) -> list[tuple[Any, Any, Any]]:
    """(channels, kernel, strides) of the layers of a kind."""
    found = [item[kind] for item in layers if isinstance(item, dict) and kind in item]
    return [(conv["channels"], conv.get("kernel", 3), conv.get("stride", 1)) for conv in found]
