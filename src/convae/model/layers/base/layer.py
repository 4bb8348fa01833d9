"""What a layer is: a module that knows the shape it will get and what it sees of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from convae.core.context import Context, ContextModule, call_module
from convae.core.description import to_plain
from convae.core.errors import ShapeError
from convae.core.names import flow_repr, shape_text
from convae.core.types import Shape


class ReceptiveField(NamedTuple):
    """What one output position sees of the input, along each spatial axis.

    `kernel` is how many neighboring input positions it sees, infinite when it sees all of them; `stride` is how
    many input positions lie between two outputs, below 1 where the layer upsamples.
    """

    kernel: tuple[float, ...]
    stride: tuple[float, ...]


class Layer(nn.Module):
    """One step of a network.

    A layer's constructor takes the shape that will reach it (channels, *sizes), so that input channels are never
    written, and its configuration as keyword-only arguments. It runs once on the meta device while the network is
    built, which gives the shape for the next layer. What it cannot take, it refuses with a `ShapeError` that says
    what it needs; the network adds where.

    `example` and `example_shape` are its smallest example, for the documentation and the contract tests. `any_size`
    says that it works, with the same parameters, on spatial sizes other than those it was built for; `over_positions`
    that it takes statistics over the positions of an image; `keeps_shape` that it gives back the shape that reached it;
    `recomputes` that a second pass in training gives the same output, so that gradient checkpointing may run it twice.
    """

    example: ClassVar[Mapping[str, Any]] = {}
    example_shape: ClassVar[Shape] = (4, 8, 8)
    any_size: ClassVar[bool] = True
    over_positions: ClassVar[bool] = False
    keeps_shape: ClassVar[bool] = False
    recomputes: ClassVar[bool] = True
    configuration: Mapping[str, Any] = MappingProxyType({})
    """The arguments that it was made with, for people; set by the network that it is in."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape_in = shape

    def shape_out(self) -> Shape | None:
        """What it makes of `shape_in`, if that is plain without running it; the contract tests hold it to that."""
        return self.shape_in if self.keeps_shape else None

    def receptive_field(self) -> ReceptiveField | None:
        """What one output position sees of the layer's input; None when it sees just its own position."""
        return None

    def fan_in(self) -> float | None:
        """How many inputs each output sums up with `weight`, on average; None where `weight`, if any, is a gain."""
        return None

    def extra_repr(self) -> str:
        """The shape that reaches it and its arguments, for `print(model)`."""
        given = (
            f"{name}={flow_repr(to_plain(value))}" for name, value in self.configuration.items() if value is not None
        )
        return ", ".join([shape_text(self.shape_in), *given])

    def reset(self, generator: torch.Generator) -> None:
        """Gives parameters of the layer's own that initialization does not know (not a kernel, a gain or a bias)."""


class ContextLayer(ContextModule, Layer):
    """A layer that sees the forward context: it draws noise by name, sees labels, reports costs or latents.

    So does a layer that holds other layers, to pass the context on to them.
    """


class Activation(Layer):
    """A layer that maps each value by itself; initialization asks it what it leaves of a standard normal."""

    keeps_shape = True

    @torch.no_grad()
    def gain(self) -> float:
        """The factor that brings the activation of a standard normal back to a mean square of one."""
        # Midpoints of 4096 equally likely slices of the normal; one column a channel, for slopes per channel.
        midpoints = (torch.arange(4096, dtype=torch.float64) + 0.5) / 4096
        values = torch.special.ndtri(midpoints).float().unsqueeze(1).expand(-1, self.shape_in[0])
        return float(self(values).double().square().mean().rsqrt())


def compose(fields: Iterable[ReceptiveField | None]) -> ReceptiveField | None:
    """The receptive field of layers in sequence; None stands for a layer that sees just its own position."""
    total: ReceptiveField | None = None
    for field in fields:
        if field is None:
            continue
        if total is None or len(total.kernel) != len(field.kernel):
            # After a flatten there are no axes left; what was seen before it stays.
            total = field if total is None else total
            continue
        kernel = (k + (new - 1) * jump for k, new, jump in zip(total.kernel, field.kernel, total.stride, strict=True))
        stride = (jump * new for jump, new in zip(total.stride, field.stride, strict=True))
        total = ReceptiveField(tuple(kernel), tuple(stride))
    return total


def run_layers(layers: Sequence[nn.Module], x: Tensor, context: Context | None = None) -> Tensor:
    """What layers make of `x`, each of what the one before it gave."""
    for layer in layers:
        x = call_module(layer, x, context)
    return x


def full_receptive_field(shape: Shape) -> ReceptiveField:
    """That of a layer of which each output sees the whole input."""
    axes = len(shape) - 1
    return ReceptiveField((math.inf,) * axes, (1.0,) * axes)


def per_axis(value: int | tuple[int, ...], shape: Shape, what: str) -> tuple[int, ...]:
    """One number for each spatial axis of `shape`.

    Raises:
        ShapeError: a list of numbers is not as long as the shape has spatial axes.
    """
    axes = len(shape) - 1
    if isinstance(value, int):
        return (value,) * axes
    if len(value) != axes:
        raise ShapeError(f"{what} has {len(value)} numbers, needs one or {axes}, one for each spatial axis")
    return tuple(value)


def needs_axes(shape: Shape, *allowed: int) -> int:
    """The number of spatial axes of `shape`.

    Raises:
        ShapeError: it is none of `allowed`.
    """
    axes = len(shape) - 1
    if axes not in allowed:
        wanted = " or ".join(str(number) for number in allowed)
        raise ShapeError(f"needs channels and {wanted} spatial axes, got the shape {shape_text(shape)}")
    return axes


def along_channels(parameter: Tensor, axes: int) -> Tensor:
    """A (channel,) parameter viewed so that it broadcasts over (batch, channel, *sizes)."""
    return parameter.view(1, -1, *(1,) * axes)


def window_fits(window: tuple[int, ...], stride: tuple[int, ...], shape: Shape) -> None:
    """Checks that a window is no larger than the (padded) sizes of `shape`, nor its step; one position takes any step.

    Raises:
        ShapeError: one of them, in positions, is larger along some axis.
    """
    for needed, size in zip(window, shape[1:], strict=True):
        if size < needed:
            raise ShapeError(f"needs at least {needed} positions along each axis, got the shape {shape_text(shape)}")
    for step, size in zip(stride, shape[1:], strict=True):
        if step > size > 1:
            raise ShapeError(f"its stride of {step} goes beyond the size {size} of the shape {shape_text(shape)}")
