"""A model as separate graphs of tensors: encode, decode, decode-codes, reconstruct and sample."""

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
"""The shape of an input: a number, or the name of a free axis."""
AXIS_NAMES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}
_BATCH = 2  # torch takes an example batch of one for a fixed size
_IMAGE, _LATENT, _LABEL, _NOISE, _CODES = "image", "z", "label", "noise", "codes"


@dataclass(frozen=True)
class Graph:
    """One computation of a model, as a module from tensors to tensors.

    Attributes:
        name: encode, decode, decode-codes, reconstruct or sample.
        module: takes the inputs in their order and returns a tuple of outputs.
        examples: inputs by name, of a batch.
        outputs: names of the outputs.
        free: axes besides the batch that may differ, by input: axis number to the step of its size.
    """

    name: str
    module: nn.Module
    examples: Mapping[str, Tensor]
    outputs: tuple[str, ...]
    free: Mapping[str, Mapping[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class TracedGraph:
    """A graph as traced by `torch.export`.

    Attributes:
        name: of the graph.
        program: the traced operations and the weights.
        examples: inputs by name.
        inputs: the shape of each input by name.
        outputs: names of the outputs.
    """

    name: str
    program: torch.export.ExportedProgram = field(repr=False)
    examples: Mapping[str, Tensor] = field(repr=False)
    inputs: Mapping[str, Axes]
    outputs: tuple[str, ...]


class _Function(nn.Module):
    """A function of a model, as a module that owns the model."""

    def __init__(self, model: VAE, compute: Callable[[VAE, dict[str, Tensor]], dict[str, Tensor]], names: list[str]):
        super().__init__()
        self.model, self._compute, self._names = model, compute, names

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(self._compute(self.model, dict(zip(self._names, inputs, strict=True))).values())


def _encode(model: VAE, given: dict[str, Tensor]) -> dict[str, Tensor]:
    posterior = model.encode(given[_IMAGE], given.get(_LABEL))
    found = {"mean": posterior.mean, "logvar": posterior.logvar}
    codes = getattr(posterior, "codes", None)
    if codes is not None and (named := codes if isinstance(codes, dict) else {"": codes}):
        found |= {_code_name(name): own for name, own in named.items()}
    if posterior.is_discrete:
        del found["logvar"]
    if model.classifier is not None:
        found["logits"] = model.classify(posterior.mean)
    return found


def _decode(model: VAE, given: dict[str, Tensor]) -> dict[str, Tensor]:
    return {_IMAGE: model.decode(given[_LATENT], given.get(_LABEL)).mean}


def _decode_codes(model: VAE, given: dict[str, Tensor]) -> dict[str, Tensor]:
    streams = [name for name, _ in model.latent_layout.entries]
    codes = {name: given[_code_name(name if len(streams) > 1 else "")] for name in streams}
    return {_IMAGE: model.decode_codes(codes, given.get(_LABEL)).mean}


def _reconstruct(model: VAE, given: dict[str, Tensor]) -> dict[str, Tensor]:
    posterior = model.encode(given[_IMAGE], given.get(_LABEL))
    return {"reconstruction": model.decode(posterior.mean, given.get(_LABEL)).mean}


def _sample(model: VAE, given: dict[str, Tensor]) -> dict[str, Tensor]:
    noise, labels = given[_NOISE], given.get(_LABEL)
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
    """The graphs that a model has.

    Models with codes have `decode-codes`, to which a program gives the codes that it draws; others have `sample`, whose
    input is standard normal noise.
    """
    is_discrete = [bool(each.codebook_sizes) for each in model.latent_modules]
    more = ["decode-codes"] if all(is_discrete) else []
    more += [] if any(is_discrete) else ["sample"]
    return ["encode", "decode", *more, "reconstruct"]


@torch.no_grad()
def graph(model: VAE, name: str, *, free_sizes: bool = False) -> Graph:
    """One computation of a model in evaluation mode.

    Args:
        model: on the CPU.
        name: of `graph_names`.
        free_sizes: whether the sizes of images and latents are free; only of models whose `size_step` is known.

    Raises:
        ConfigError: the model has no such graph.
    """
    if name not in graph_names(model):
        raise ConfigError(f"model '{model.name}': {unknown_message('graph', name, graph_names(model))}")
    steps = model.size_step if free_sizes else None
    channels, *sizes = model.input_shape
    if steps is not None:
        # torch takes a size of one for fixed, so the example's grid has several positions along each axis.
        sizes = [size + 2 * step for size, step in zip(sizes, steps, strict=True)]
    images = torch.rand(_BATCH, channels, *sizes, generator=torch_generator(0, "export"))
    labels = None
    if model.condition is not None:
        labels = torch.arange(_BATCH) % model.condition.classes
    examples = _examples(model, name, images, labels)
    free: dict[str, dict[int, int]] = {}
    if steps is not None and _IMAGE in examples:
        free[_IMAGE] = {axis + 2: step for axis, step in enumerate(steps)}
    if steps is not None and _LATENT in examples:
        free[_LATENT] = {axis + 2: 1 for axis in range(examples[_LATENT].ndim - 2)}
    if labels is not None:
        examples[_LABEL] = labels
    module = _Function(model, _COMPUTE[name], list(examples)).eval()
    outputs = tuple(_COMPUTE[name](model, examples))
    return Graph(name, module, examples, outputs, free)


def _examples(model: VAE, name: str, images: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
    """Example inputs of a graph by name, without labels."""
    if name in ("encode", "reconstruct"):
        return {_IMAGE: images}
    if name == "sample":
        noise = GivenNoise(None)
        model.sample_latents(_BATCH, noise, labels)
        return {_NOISE: torch.randn(_BATCH, noise.used, generator=torch_generator(1, "export"))}
    found = _encode(model, {_IMAGE: images} | ({} if labels is None else {_LABEL: labels}))
    if name == "decode":
        return {_LATENT: found["mean"].clone()}
    return {key: tensor for key, tensor in found.items() if key.startswith(_CODES)}


def trace(own: Graph) -> TracedGraph:
    """A graph as traced by `torch.export`, with a free batch size.

    Raises:
        ConfigError: it holds a computation that depends on values, as a loop until a condition holds.
    """
    batch = torch.export.Dim("batch")
    rank = max((tensor.ndim - 2 for tensor in own.examples.values()), default=0)
    sizes = {name: torch.export.Dim(f"steps_{name}") for name in AXIS_NAMES.get(rank, ())}
    dynamic: list[dict[int, Any]] = []
    inputs: dict[str, Axes] = {}
    for name, tensor in own.examples.items():
        named = AXIS_NAMES.get(tensor.ndim - 2, ())
        axes: dict[int, Any] = {0: batch}
        shape: list[int | str] = ["batch", *tensor.shape[1:]]
        for axis, step in own.free.get(name, {}).items():
            axes[axis] = _size(sizes[named[axis - 2]], step, tensor.shape[axis] % step)
            shape[axis] = named[axis - 2]
        dynamic.append(axes)
        inputs[name] = tuple(shape)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(
                own.module, tuple(own.examples.values()), dynamic_shapes=(tuple(dynamic),), strict=False
            )
    except ConvaeError:
        raise
    except Exception as error:  # tracing raises what the model's code raises
        raise ConfigError(f"graph '{own.name}': cannot be exported: {one_line(error)[:300]}") from error
    return TracedGraph(own.name, program, own.examples, inputs, own.outputs)


def _size(steps: Any, step: int, rest: int) -> Any:
    """The size of an axis: `step` times a free number, plus a rest."""
    size = steps if step == 1 else step * steps
    return size + rest if rest else size


def trace_graph(model: VAE, name: str) -> TracedGraph:
    """The traced graph of that name, with free sizes of images and latents where the model allows them.

    Raises:
        ConfigError: as for `graph` and `trace`.
    """
    is_map = name == "decode" and not model.is_hierarchical
    if model.size_step is not None and (is_map or name in ("encode", "reconstruct")):
        with contextlib.suppress(ConfigError, ShapeError):  # a computation depends on the sizes
            return trace(graph(model, name, free_sizes=True))
    return trace(graph(model, name))
