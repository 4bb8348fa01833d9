"""Base classes of layers: modules that know their input shape and receptive field."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from convae.core.context import Context, ContextModule, call_module
from convae.core.description import to_plain
from convae.core.errors import ConfigError, ShapeError
from convae.core.names import flow_repr, shape_text
from convae.core.types import Shape
from convae.model.layers.base.feature_map import FeatureMap

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class ReceptiveField(NamedTuple):
    """Receptive field of one output position, along each spatial axis.

    `kernel` is the number of input positions it depends on, infinite for all; `stride` is the distance of two outputs
    in input positions, below 1 for upsampling.
    """

    kernel: tuple[float, ...]
    stride: tuple[float, ...]


class Layer(nn.Module):
    """One step of a network.

    The constructor takes the input shape (channels, *sizes), so that input channels need not be configured, and the
    configuration as keyword-only arguments. The layer runs once on the meta device while the network is built, which
    gives the input shape of the next layer. For an unsupported shape it raises a `ShapeError`; the network adds the
    location.

    `example` and `example_shape` are a minimal example for the documentation and the contract tests. `any_size` states
    that it works with the same parameters on other spatial sizes; `over_positions` that it computes statistics over the
    positions of an image or reports values of the whole image, so that it is not applied to slices of it;
    `keeps_shape` that the output shape is the input shape; `recomputes` that a second pass in training gives the same
    output, so that gradient checkpointing may run it twice; `compiles` that `torch.compile` can trace it: it uses
    neither the forward context nor statistics of the batch; `only_in_training` that it has no parameters and does
    nothing in evaluation mode, so that an export may omit it.
    """

    example: ClassVar[Mapping[str, Any]] = {}
    example_shape: ClassVar[Shape] = (4, 8, 8)
    any_size: ClassVar[bool] = True
    over_positions: ClassVar[bool] = False
    keeps_shape: ClassVar[bool] = False
    recomputes: ClassVar[bool] = True
    compiles: ClassVar[bool] = True
    only_in_training: ClassVar[bool] = False
    configuration: Mapping[str, Any] = MappingProxyType({})
    """The arguments of the layer, for `print(model)`; set by the network."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape_in = shape

    def shape_out(self) -> Shape | None:
        """The output shape, if it is known without running the layer; verified by the contract tests."""
        return self.shape_in if self.keeps_shape else None

    def receptive_field(self) -> ReceptiveField | None:
        """The receptive field of one output position; None for the position itself only."""
        return None

    def halo(self) -> tuple[int, int]:
        """Rows of the first spatial axis before and after row j · stride, rounded down, that output row j depends on.

        More are allowed. Only of layers with a finite receptive field.
        """
        field = self.receptive_field()
        most = 0 if field is None else math.ceil(field.kernel[0])
        return most, most

    def compute_in_slices(self, x: FeatureMap, context: Context | None = None) -> FeatureMap:
        """The output for a large image whose rows are computed when they are asked for, equal to that of `forward`.

        By default, a layer with a finite receptive field gets slices, and any other the entire image. Layers that
        contain layers, or need statistics of the image, do it step by step.

        Args:
            x: with spatial axes.
            context: forward context.
        """
        if depends_on_image(self):
            return x.whole(lambda tensor: call_module(self, tensor, context))
        field = self.receptive_field()
        stride = Fraction(1 if field is None else field.stride[0]).limit_denominator(1 << 16)
        if stride < 1:
            x.keep()  # it is smaller than what follows
        work = int(any(parameter.ndim > 1 for parameter in self.parameters()))
        compute = functools.partial(_on_slice, self, context)
        found = x.local(compute, shape_after(self, x.shape), stride=stride, halo=self.halo(), work=work)
        return found.keep() if stride > 1 else found

    def fan_in(self) -> float | None:
        """Average number of inputs summed with `weight` per output; None if `weight` is missing or a gain."""
        return None

    def inverse(self, y: Tensor) -> Tensor | None:
        """The input whose output is `y`; None if the layer has parameters, or is not invertible.

        The initialization needs it to start the decoder's output at the mean of the images; see `initialize`.
        """
        return None

    def extra_repr(self) -> str:
        """Input shape and arguments, for `print(model)`."""
        given = (
            f"{name}={flow_repr(to_plain(value))}" for name, value in self.configuration.items() if value is not None
        )
        return ", ".join([shape_text(self.shape_in), *given])

    def reset(self, generator: torch.Generator) -> None:
        """Initializes parameters that are not kernels, gains or biases, which `initialize` handles."""


class ContextLayer(ContextModule, Layer):
    """A layer with access to the forward context: noise by name, labels, reported terms and latents.

    A layer that contains other layers is one, to pass the context on to them. One that does nothing else with it sets
    `compiles`.
    """

    compiles = False


class Activation(Layer):
    """An elementwise layer."""

    keeps_shape = True

    @torch.no_grad()
    def gain(self) -> float:
        """The factor that restores a mean square of one for standard normal inputs; used by the initialization."""
        # Midpoints of 4096 equally likely intervals of the normal distribution; one column per channel.
        midpoints = (torch.arange(4096, dtype=torch.float64) + 0.5) / 4096
        values = torch.special.ndtri(midpoints).float().unsqueeze(1).expand(-1, self.shape_in[0])
        return float(self(values).double().square().mean().rsqrt())


def depends_on_image(layer: Layer) -> bool:
    """Whether an output may depend on the entire image, or a report to the context is about it."""
    field = layer.receptive_field()
    if field is not None and math.inf in field.kernel:
        return True
    inner = (module for module in layer.modules() if isinstance(module, Layer))
    return any(each.over_positions or not each.any_size for each in inner)


def computed_whole(layer: Layer) -> bool:
    """Whether slices of a large image do not save the memory of a layer, since it gets the entire image."""
    if len(layer.shape_in) == 1:
        return False
    if type(layer).compute_in_slices is Layer.compute_in_slices:
        return depends_on_image(layer)
    inner = (module for module in layer.modules() if isinstance(module, Layer) and module is not layer)
    return any(computed_whole(each) for each in inner)


def shape_after(layer: Layer, shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of the output for an input of any sizes, (batch, channels, *sizes), which is not computed."""
    if layer.keeps_shape:
        return tuple(shape)
    tensors = [*layer.parameters(), *layer.buffers()]
    kind = next((each.dtype for each in tensors if each.is_floating_point()), None)
    # Without its hooks, which are for real values.
    found: Tensor = copy_to_meta(layer).forward(torch.empty(tuple(shape), device="meta", dtype=kind))
    return tuple(found.shape)


def copy_to_meta(module: ModuleT) -> ModuleT:
    """A copy of a module on the meta device; no values are copied."""
    replaced: dict[int, Any] = {
        id(each): nn.Parameter(each.to("meta")) if isinstance(each, nn.Parameter) else each.to("meta")
        for each in (*module.parameters(), *module.buffers())
    }
    return copy.deepcopy(module, replaced)


def _on_slice(layer: Layer, context: Context | None, x: Tensor) -> Tensor:
    """Applies a layer to a slice, for which it must not report anything."""
    own = None if context is None else context.again()
    y = call_module(layer, x, own)
    if own is not None and (own.terms or own.latents or own.posteriors):
        raise ConfigError(
            f"{type(layer).__name__} reports terms or latents of a slice. Set over_positions = True in its class, so "
            "that it gets the entire image"
        )
    return y


def compose(fields: Iterable[ReceptiveField | None]) -> ReceptiveField | None:
    """The receptive field of layers in sequence; None is a layer that depends on the same position only."""
    total: ReceptiveField | None = None
    for field in fields:
        if field is None:
            continue
        if total is None or len(total.kernel) != len(field.kernel):
            # After a flatten there are no axes; the field before it remains.
            total = field if total is None else total
            continue
        kernel = (k + (new - 1) * jump for k, new, jump in zip(total.kernel, field.kernel, total.stride, strict=True))
        stride = (jump * new for jump, new in zip(total.stride, field.stride, strict=True))
        total = ReceptiveField(tuple(kernel), tuple(stride))
    return total


def run_layers(layers: Sequence[nn.Module], x: Tensor, context: Context | None = None) -> Tensor:
    """Applies layers in sequence."""
    for layer in layers:
        x = call_module(layer, x, context)
    return x


def full_receptive_field(shape: Shape) -> ReceptiveField:
    """The receptive field of a layer whose outputs depend on the entire input."""
    axes = len(shape) - 1
    return ReceptiveField((math.inf,) * axes, (1.0,) * axes)


def per_axis(value: int | tuple[int, ...], shape: Shape, what: str) -> tuple[int, ...]:
    """Expands a number to one per spatial axis of `shape`.

    Raises:
        ShapeError: the length of a list differs from the number of spatial axes.
    """
    axes = len(shape) - 1
    if isinstance(value, int):
        return (value,) * axes
    if len(value) != axes:
        raise ShapeError(f"{what} has {len(value)} numbers. Use one, or {axes}, one per spatial axis")
    return tuple(value)


def needs_axes(shape: Shape, *allowed: int) -> int:
    """Returns the number of spatial axes of `shape`.

    Raises:
        ShapeError: it is none of `allowed`.
    """
    axes = len(shape) - 1
    if axes not in allowed:
        wanted = " or ".join(str(number) for number in allowed)
        raise ShapeError(f"expected channels and {wanted} spatial axes, got the shape {shape_text(shape)}")
    return axes


def along_channels(parameter: Tensor, axes: int) -> Tensor:
    """Views a (channel,) parameter so that it broadcasts over (batch, channel, *sizes)."""
    return parameter.view(1, -1, *(1,) * axes)


def window_fits(window: tuple[int, ...], stride: tuple[int, ...], shape: Shape) -> None:
    """Checks that window and stride are not larger than the (padded) sizes of `shape`; a size of 1 allows any stride.

    Raises:
        ShapeError: one of them is larger along an axis.
    """
    for needed, size in zip(window, shape[1:], strict=True):
        if size < needed:
            raise ShapeError(f"expected at least {needed} positions along each axis, got the shape {shape_text(shape)}")
    for step, size in zip(stride, shape[1:], strict=True):
        if step > size > 1:
            raise ShapeError(f"its stride of {step} is larger than the size {size} of the shape {shape_text(shape)}")
