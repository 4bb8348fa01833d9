"""Graphs of a model for export: encode, decode, decode-codes, reconstruct and sample."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from convae.core.errors import ConfigError, ConvaeError, ShapeError
from convae.core.names import one_line, unknown_message
from convae.core.noise import GivenNoise
from convae.core.random import torch_generator
from convae.model.vae import VAE

Axes = tuple[int | str, ...]
"""Shape of an input: sizes, and names of dynamic axes."""
AXIS_NAMES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}
_BATCH = 2  # torch.export specializes sizes of 1
_IMAGE, _LATENT, _LABEL, _NOISE, _CODES = "image", "z", "label", "noise", "codes"


@dataclass(frozen=True)
class Graph:
    """One computation of a model, as a module from tensors to tensors.

    Attributes:
        name: encode, decode, decode-codes, reconstruct or sample.
        module: takes the inputs as positional arguments, and returns a tuple of outputs.
        examples: example inputs by name, in order.
        outputs: names of the outputs.
        dynamic_axes: by input, the axes besides the batch whose size is dynamic, with the step between valid sizes.
    """

    name: str
    module: nn.Module
    examples: Mapping[str, Tensor]
    outputs: tuple[str, ...]
    dynamic_axes: Mapping[str, Mapping[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class TracedGraph:
    """A graph traced by `torch.export`.

    Attributes:
        name: name of the graph.
        program: the traced operations, and the weights.
        examples: example inputs by name.
        inputs: shape of each input by name.
        outputs: names of the outputs.
    """

    name: str
    program: torch.export.ExportedProgram = field(repr=False)
    examples: Mapping[str, Tensor] = field(repr=False)
    inputs: Mapping[str, Axes]
    outputs: tuple[str, ...]


class _Function(nn.Module):
    """A function of a model and named tensors, as a module with positional inputs that has the model as a child."""

    def __init__(self, model: VAE, compute: Callable[[VAE, dict[str, Tensor]], dict[str, Tensor]], names: list[str]):
        super().__init__()
        self.model, self._compute, self._names = model, compute, names

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(self._compute(self.model, dict(zip(self._names, inputs, strict=True))).values())


def _encode(model: VAE, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    posterior = model.encode(inputs[_IMAGE], inputs.get(_LABEL))
    outputs = {"mean": posterior.mean, "logvar": posterior.logvar}
    codes = getattr(posterior, "codes", None)
    if codes is not None and (by_stream := codes if isinstance(codes, dict) else {"": codes}):
        outputs |= {_code_name(stream): tensor for stream, tensor in by_stream.items()}
    if posterior.is_discrete:
        del outputs["logvar"]
    if model.classifier is not None:
        outputs["logits"] = model.classify(posterior.mean)
    return outputs


def _decode(model: VAE, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {_IMAGE: model.decode(inputs[_LATENT], inputs.get(_LABEL)).mean}


def _decode_codes(model: VAE, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    streams = [name for name, _ in model.latent_layout.entries]
    codes = {name: inputs[_code_name(name if len(streams) > 1 else "")] for name in streams}
    return {_IMAGE: model.decode_codes(codes, inputs.get(_LABEL)).mean}


def _reconstruct(model: VAE, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    posterior = model.encode(inputs[_IMAGE], inputs.get(_LABEL))
    return {"reconstruction": model.decode(posterior.mean, inputs.get(_LABEL)).mean}


def _sample(model: VAE, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    noise, labels = inputs[_NOISE], inputs.get(_LABEL)
    z = model.sample_latents(noise.shape[0], GivenNoise(noise), labels)
    return {_LATENT: z, _IMAGE: model.decode(z, labels).mean}


def _code_name(stream: str) -> str:
    return f"{_CODES}_{re.sub(r'[^0-9A-Za-z]', '_', stream)}" if stream else _CODES


_COMPUTE = {
    "encode": _encode,
    "decode": _decode,
    "decode-codes": _decode_codes,
    "reconstruct": _reconstruct,
    "sample": _sample,
}


def graph_names(model: VAE) -> list[str]:
    """The names of the graphs of a model.

    Only models with codes have `decode-codes`, an image from codes; only models without codes have `sample`, a latent
    and an image from standard normal noise.
    """
    is_discrete = [bool(each.codebook_sizes) for each in model.latent_modules]
    more = ["decode-codes"] if all(is_discrete) else [] if any(is_discrete) else ["sample"]
    return ["encode", "decode", *more, "reconstruct"]


@torch.no_grad()
def build_graph(model: VAE, name: str, *, dynamic_sizes: bool = False) -> Graph:
    """One computation of a model in evaluation mode, with example inputs.

    Args:
        model: on the CPU.
        name: one of `graph_names`.
        dynamic_sizes: whether the sizes of images and latents are dynamic; without effect on models without a
            `size_step`.

    Raises:
        ConfigError: the model has no such graph.
    """
    if name not in graph_names(model):
        raise ConfigError(f"model '{model.name}': {unknown_message('graph', name, graph_names(model))}")
    steps = model.size_step if dynamic_sizes else None
    channels, *sizes = model.input_shape
    if steps is not None:
        # torch.export specializes sizes of 1, so each axis of the example's latent map has several positions.
        sizes = [size + 2 * step for size, step in zip(sizes, steps, strict=True)]
    images = torch.rand(_BATCH, channels, *sizes, generator=torch_generator(0, "export"))
    labels = None
    if model.condition is not None:
        labels = torch.arange(_BATCH) % model.condition.classes
    examples = example_inputs(model, name, images, labels)
    dynamic: dict[str, dict[int, int]] = {}
    if steps is not None and _IMAGE in examples:
        dynamic[_IMAGE] = {axis + 2: step for axis, step in enumerate(steps)}
    if steps is not None and _LATENT in examples:
        dynamic[_LATENT] = {axis + 2: 1 for axis in range(examples[_LATENT].ndim - 2)}
    module = _Function(model, _COMPUTE[name], list(examples)).eval()
    outputs = tuple(_COMPUTE[name](model, examples))
    return Graph(name, module, examples, outputs, dynamic)


@torch.no_grad()
def example_inputs(model: VAE, name: str, images: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
    """Inputs of a graph by name, in order.

    Args:
        model: on the CPU.
        name: one of `graph_names`.
        images: (image, channel, *sizes) in [0, 1]; other graphs take their latents or codes, or noise of that number.
        labels: class numbers of the images; None for models without a condition.

    Raises:
        ConfigError: the model has no such graph.
    """
    if name not in graph_names(model):
        raise ConfigError(f"model '{model.name}': {unknown_message('graph', name, graph_names(model))}")
    given = {} if labels is None else {_LABEL: labels}
    if name in ("encode", "reconstruct"):
        return {_IMAGE: images, **given}
    if name == "sample":
        noise = GivenNoise(None)
        model.sample_latents(_BATCH, noise, None if labels is None else labels[:_BATCH])
        generator = torch_generator(1, "export")
        return {_NOISE: torch.randn(len(images), noise.used, generator=generator), **given}
    encoded = _encode(model, {_IMAGE: images, **given})
    if name == "decode":
        return {_LATENT: encoded["mean"].clone(), **given}
    return {**{key: tensor for key, tensor in encoded.items() if key.startswith(_CODES)}, **given}


def trace(graph: Graph) -> TracedGraph:
    """Traces a graph by `torch.export`, with a dynamic batch size.

    Raises:
        ConfigError: the graph cannot be traced, for instance because control flow depends on values.
    """
    batch = torch.export.Dim("batch")
    rank = max((tensor.ndim - 2 for tensor in graph.examples.values()), default=0)
    sizes = {name: torch.export.Dim(f"steps_{name}") for name in AXIS_NAMES.get(rank, ())}
    dynamic_shapes: list[dict[int, Any]] = []
    inputs: dict[str, Axes] = {}
    for name, tensor in graph.examples.items():
        axis_names = AXIS_NAMES.get(tensor.ndim - 2, ())
        axes: dict[int, Any] = {0: batch}
        shape: list[int | str] = ["batch", *tensor.shape[1:]]
        for axis, step in graph.dynamic_axes.get(name, {}).items():
            axes[axis] = _dynamic_size(sizes[axis_names[axis - 2]], step, tensor.shape[axis] % step)
            shape[axis] = axis_names[axis - 2]
        dynamic_shapes.append(axes)
        inputs[name] = tuple(shape)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(
                graph.module, tuple(graph.examples.values()), dynamic_shapes=(tuple(dynamic_shapes),), strict=False
            )
    except ConvaeError:
        raise
    except Exception as error:  # tracing raises whatever the layers raise
        if "specialized" in str(error):
            reason = "its code is for one number of images. Take it from x.shape[0], not len(x)"
        else:
            reason = one_line(error)[:300]
        raise ConfigError(f"graph '{graph.name}': cannot be exported: {reason}") from error
    return TracedGraph(graph.name, program, graph.examples, inputs, graph.outputs)


def _dynamic_size(count: Any, step: int, remainder: int) -> Any:
    """The size step · count + remainder, in a form that `torch.export` accepts."""
    size = count if step == 1 else step * count
    return size + remainder if remainder else size


def trace_graph(model: VAE, name: str) -> TracedGraph:
    """Traces a graph of a model, with dynamic sizes of images and latents if the model supports them.

    Args:
        model: on the CPU.
        name: one of `graph_names`.

    Raises:
        ConfigError: as for `build_graph` and `trace`.
    """
    is_map = name == "decode" and not model.is_hierarchical
    if model.size_step is not None and (is_map or name in ("encode", "reconstruct")):
        with contextlib.suppress(ConfigError, ShapeError):  # some computation depends on the sizes
            return trace(build_graph(model, name, dynamic_sizes=True))
    return trace(build_graph(model, name))
