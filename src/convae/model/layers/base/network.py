"""A network is a list of layers, checked on the meta device when it is built.

    specs ── layer by layer: validate arguments ─> construct on meta ─> run on meta ──> input shape of the next layer

An error names the first layer that does not fit, with its location in the list and its input shape.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from convae.core.arguments import drop_defaults, keyword_parameters, parse_arguments
from convae.core.context import Context, ContextModule, call_module
from convae.core.description import LayerSpec, layer_list_arguments, read_plain_list, to_plain
from convae.core.device import on_meta
from convae.core.errors import ConfigError, ShapeError
from convae.core.names import shape_text
from convae.core.types import Shape
from convae.model.layers import LAYERS
from convae.model.layers.base.compiled import CompileMode, run_compiled
from convae.model.layers.base.feature_map import FeatureMap
from convae.model.layers.base.layer import Layer, ReceptiveField, compose, computed_whole, run_layers
from convae.model.layers.base.sliced_pass import current_pass
from convae.model.layers.base.slices import Slices
from convae.model.layers.base.tiles import Tiles
from convae.model.quantizers.base import QuantizerEntry


class Network(ContextModule, nn.Sequential):
    """Layers in sequence, each built for the output shape of the one before it.

    The parameters are on the meta device, without storage, until `initialize` allocates them.

    Args:
        shape: (channels, *sizes) of the input, without the batch.
        layers: a plain list of layers: a `LayerSpec`, a name, or a mapping of a name to its arguments.
        side: path of the list, such as `model.encoder` or `layers`, for messages.
        init_scale: factor on the initial weights of the last layer that has weights.

    Attributes:
        checkpointing: gradient checkpointing between groups of layers (Chen et al. 2016, arXiv:1604.06174): less
            memory, more time, equal gradients.
        compile_mode: mode in which `torch.compile` compiles the network for training steps; None to run it as it is.
        slices: how large images are computed in slices in evaluation, with equal results and less memory; None for
            the entire image at once.
        tiles: how large images are computed in overlapping tiles instead, which is approximate; None without.

    Raises:
        ConfigError: an unknown layer, or invalid arguments.
        ShapeError: a layer does not accept its input shape.
    """

    def __init__(self, shape: Shape, layers: Sequence[Any], side: str, *, init_scale: float = 1.0) -> None:
        super().__init__()
        self.side = side
        self.init_scale = init_scale
        self.checkpointing = False
        self.compile_mode: CompileMode | None = None
        self.slices: Slices | None = None
        self.tiles: Tiles | None = None
        self.shape_in = shape
        self.specs = read_plain_list(layers, side)
        self.shapes: list[Shape] = []
        with on_meta(), torch.no_grad():
            for spec in self.specs:
                layer, shape = _build_layer(spec, shape, spec.location(side))
                self.shapes.append(shape)
                self.append(layer)

    def forward(self, input: Tensor, context: Context | None = None) -> Tensor:
        """(batch, channels, *sizes) through all layers."""
        layers = list(self)
        if not (self.training or torch.is_grad_enabled()):
            if self.tiles is not None:
                return self.tiles.compute(functools.partial(run_layers, layers, context=context), input)
            sliced = current_pass() or (self.slices and self.slices.begin_pass(input, self.shape_in, self.shapes))
            if sliced:
                given = FeatureMap.of(sliced, input, is_counted=False)
                return self.compute_in_slices(given, context).tensor()
        if not (self.training and torch.is_grad_enabled()):
            return run_layers(layers, input, context)
        if self.compile_mode is not None:
            return run_compiled(self, input, self.compile_mode)
        if not self.checkpointing:
            return run_layers(layers, input, context)
        for group in _checkpointed_groups(layers):
            if not _recomputes(group[0]):
                input = run_layers(group, input, context)
                continue
            contexts = functools.partial(_contexts, group)
            run = functools.partial(run_layers, group)
            input = checkpoint(_reported_once(run, context), input, use_reentrant=False, context_fn=contexts)
        return input

    @property
    def shape_out(self) -> Shape:
        """(channels, *sizes) after the last layer."""
        return self.shapes[-1] if self.shapes else self.shape_in

    @property
    def compiles(self) -> bool:
        """Whether `torch.compile` can trace all layers, also those inside of layers."""
        return all(layer.compiles for layer in self.modules() if isinstance(layer, Layer))

    def canonical(self) -> list[LayerSpec]:
        """The canonical list: registered names, arguments without defaults."""
        return canonical_list(self.specs)

    def receptive_field(self) -> ReceptiveField | None:
        """The receptive field of one output position."""
        return compose(layer.receptive_field() for layer in self)

    def strides(self) -> tuple[Fraction, ...]:
        """Input positions per output position along each spatial axis: integers, or inverses of integers."""
        field = self.receptive_field()
        found = (1.0,) * (len(self.shape_in) - 1) if field is None else field.stride
        return tuple(Fraction(each).limit_denominator(1 << 16) for each in found)

    def compute_in_slices(self, x: FeatureMap, context: Context | None = None) -> FeatureMap:
        """The output for a large image whose rows are computed when they are asked for; see `Layer`."""
        for layer in self:
            if x.has_rows:
                x = layer.compute_in_slices(x, context)
            else:
                x = x.whole(functools.partial(call_module, layer, context=context))
        return x

    def layers_computed_whole(self) -> list[str]:
        """Locations of the layers whose memory is not saved by slices, since they get the entire image."""
        return [spec.location(self.side) for spec, layer in zip(self.specs, self, strict=True) if computed_whole(layer)]

    def __iter__(self) -> Iterator[Layer]:
        return super().__iter__()  # type: ignore[return-value]


@contextlib.contextmanager
def uncompiled(module: nn.Module) -> Iterator[None]:
    """Runs the networks inside of a module as they are, layer by layer, inside the block."""
    modes = {inner: inner.compile_mode for inner in module.modules() if isinstance(inner, Network)}
    for network in modes:
        network.compile_mode = None
    try:
        yield
    finally:
        for network, mode in modes.items():
            network.compile_mode = mode


def _reported_once(
    run: Callable[[Tensor, Context | None], Tensor], context: Context | None
) -> Callable[[Tensor], Tensor]:
    """Layers as a function of their input that reports to the context only on the first call."""
    again: list[Context | None] = []

    def compute(x: Tensor) -> Tensor:
        if again:
            return run(x, again[0])
        again.append(None if context is None else context.again())
        return run(x, context)

    return compute


def _checkpointed_groups(layers: Sequence[Layer]) -> Iterator[list[Layer]]:
    """Groups of consecutive layers; a layer that must not run twice is alone in its group."""
    # As many groups as layers per group minimizes the stored activations.
    length = max(1, math.ceil(math.sqrt(len(layers))))
    for start in range(0, len(layers), length):
        group: list[Layer] = []
        for layer in layers[start : start + length]:
            if group and not (_recomputes(layer) and _recomputes(group[-1])):
                yield group
                group = []
            group.append(layer)
        yield group


def _recomputes(layer: Layer) -> bool:
    return all(inner.recomputes for inner in layer.modules() if isinstance(inner, Layer))


def _contexts(
    layers: Sequence[nn.Module],
) -> tuple[contextlib.AbstractContextManager[None], contextlib.AbstractContextManager[None]]:
    """The contexts of the first pass through layers, and of the recomputation, which keeps running statistics."""
    return contextlib.nullcontext(), _statistics_kept(layers)


@contextlib.contextmanager
def _statistics_kept(layers: Sequence[nn.Module]) -> Iterator[None]:
    buffers = [buffer.data for layer in layers for buffer in layer.buffers()]
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        for buffer, old in zip(buffers, before, strict=True):
            buffer.copy_(old)


def _build_layer(spec: LayerSpec, shape: Shape, where: str) -> tuple[Layer, Shape]:
    """Builds the layer of a description; returns it with its output shape."""
    try:
        target = LAYERS.get(spec.name)
    except ConfigError as error:
        raise type(error)(f"{where}: {error}") from error
    if spec.axes not in (None, len(shape) - 1):
        raise ShapeError(
            f"{where}: expected {spec.axes} spatial axes, got the shape {shape_text(shape)}. "
            f"Use the layer for {len(shape) - 1} axes"
        )
    if spec.channels not in (None, shape[0]):
        raise ShapeError(
            f"{where}: expected {spec.channels} input channels, got {shape[0]} ({shape_text(shape)}). "
            f"Give the layer before it {spec.channels} output channels, or state {shape[0]} here"
        )
    given = parse_arguments(target, spec.arguments, where)
    with error_context(where, shape):
        layer: Layer = target(shape, **given)
        layer.configuration = given
        # Two images, since batch norm in training needs more than one value per channel. Stated shapes save running
        # the layer, as batch norm and linear layers are slow on the meta device.
        out = layer.shape_out() or tuple(call_module(layer, torch.empty(2, *shape), None).shape[1:])
    if 0 in out:
        raise ShapeError(
            f"{where}: no positions are left of {shape_text(shape)}. Use fewer or smaller strides, or larger images"
        )
    return layer, out


@contextlib.contextmanager
def error_context(where: str, shape: Shape = ()) -> Iterator[None]:
    """Adds the location and the input shape to errors while a part of a model is built."""
    try:
        yield
    except (ConfigError, ShapeError) as error:
        raise type(error)(f"{where}: {error}") from error
    except (RuntimeError, ValueError, OverflowError) as error:
        fault = f"does not accept the shape {shape_text(shape)}" if shape else "cannot be built"
        huge = "overflow" in str(error).lower()
        reason = "too large" if huge else str(error).partition("\n")[0]
        raise ShapeError(f"{where}: {fault} ({reason})") from error


def canonical_list(layers: Sequence[Any]) -> list[LayerSpec]:
    """The canonical form of a plain list: registered names, arguments without defaults."""
    result = []
    for index, spec in enumerate(read_plain_list(layers, "list")):
        target = LAYERS.get(spec.name)
        given = shorten(target, parse_arguments(target, spec.arguments, spec.name))
        lists = (name for name in layer_list_arguments(target) if given[name] is not None)
        inner = {name: canonical_list(given[name]) for name in lists}
        result.append(LayerSpec(spec.name, to_plain(drop_defaults(target, {**given, **inner})), f"[{index}]"))
    return result


def shorten(target: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Replaces equal numbers per axis by one number, and layers in arguments by their canonical form."""
    result, annotations = dict(given), keyword_parameters(target)
    for name, value in given.items():
        if annotations[name][0] == QuantizerEntry:
            continue  # a quantizer may have the name of a layer
        if isinstance(value, Mapping) and len(value) == 1 and next(iter(value)) in LAYERS:
            (spec,) = canonical_list([value])
            result[name] = spec.to_mapping() if spec.arguments else spec.name
        elif isinstance(value, tuple) and len(set(value)) == 1:
            with contextlib.suppress(ConfigError):
                result = parse_arguments(target, {**result, name: value[0]}, name)
    return result


def count_parameters(module: nn.Module) -> int:
    """Number of parameters, counting shared ones once."""
    return sum(math.prod(parameter.shape) for parameter in module.parameters())
