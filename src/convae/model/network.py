"""A network is a list of layers: written by a person, checked on the meta device, then run.

    items ── layer by layer: validate arguments ─> construct on meta ─> run on meta ──> shape for the next layer

The first layer that does not fit is named with its place, as the user wrote it, with the shape it got.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from convae.core.arguments import arguments, not_default
from convae.core.errors import ConfigError, ShapeError
from convae.core.names import flow_repr, one_line, shape_text, short_repr
from convae.core.registry import canonical_name
from convae.core.types import Shape
from convae.model.codes import Code, is_code, read_code, repeats
from convae.model.layers import LAYERS
from convae.model.layers.base import Layer, Reach, in_a_row, joined
from convae.model.slices import in_slices, sees_everything

MAX_LAYERS = 10_000
"""A longer list is taken for a mistake."""
MAX_DEPTH = 40
"""So is a deeper one."""


class Translated(dict[str, Any]):
    """A layer that was written in another notation.

    Args:
        layer: a mapping of its name to its arguments.
        original: its place there, and how it was written.
    """

    def __init__(self, layer: Mapping[str, Any], original: str) -> None:
        super().__init__(layer)
        self.original = original


@dataclass(frozen=True)
class Item:
    """One layer of a list: its name, its arguments, its place in the list as the user wrote it, and its code if any.

    What was translated from another notation has its place and text there.
    """

    name: str
    given: Mapping[str, Any]
    place: str
    code: Code | None = None
    original: str | None = None

    @property
    def where(self) -> str:
        """Its place, and the layer as it was written."""
        return self.original or f"layer {self.place} ({self})"

    def __str__(self) -> str:
        if self.code is not None:
            return self.code.text
        given = ", ".join(f"{key}: {flow_repr(value)}" for key, value in self.given.items())
        return f"{self.name} {{{given}}}" if given else self.name


class Network(nn.Sequential):
    """Layers in a row, each built for the shape that the one before it gives.

    The parameters are on the meta device: they have shapes and no storage until `initialise` gives them values.

    Args:
        shape: (channels, *sizes) of the input, without the batch.
        layers: a list of layers: a name, a mapping of a name to its arguments, or a layer code; `repeat` repeats a
            list, `3*CODE` a code.
        side: `encoder`, `decoder` or the like, for messages.

    Attributes:
        checkpointing: whether training keeps only what lies between groups of layers, and computes what lies inside
            them again in the backward pass (Chen et al. 2016, arXiv:1604.06174): less memory, more time, equal
            gradients.
        rows: how many positions of the first spatial axis are computed at a time where nothing is trained, with equal
            results and less memory; None for all.

    Raises:
        ConfigError: an unknown layer, or wrong arguments for one.
        ShapeError: a layer cannot take the shape that reaches it.
    """

    def __init__(self, shape: Shape, layers: Sequence[Any], side: str) -> None:
        super().__init__()
        self.checkpointing = False
        self.rows: int | None = None
        self.shape_in = shape
        self.items: list[Item] = []
        self.shapes: list[Shape] = []
        within_limits(layers, side)
        with torch.device("meta"), torch.no_grad():
            for item in flat(layers, side):
                where = f"{side} {item.where}"
                layer, shape = _fitted(item, shape, where)
                self.items.append(item)
                self.shapes.append(shape)
                self.append(layer)

    def forward(self, input: Tensor) -> Tensor:
        """What the layers make of (batch, channels, *sizes)."""
        layers = list(self)
        if self.rows is not None and not (self.training or torch.is_grad_enabled()):
            return in_slices(layers, input, self.rows)
        if not (self.checkpointing and self.training and torch.is_grad_enabled()):
            return in_a_row(layers, input)
        # As many groups as layers in a group: what lies between groups, and inside one, is then the least.
        length = max(1, math.ceil(math.sqrt(len(layers))))
        for start in range(0, len(layers), length):
            group = layers[start : start + length]
            contexts = functools.partial(_contexts, group)
            input = checkpoint(in_a_row, group, input, use_reentrant=False, context_fn=contexts)
        return input

    @property
    def shape_out(self) -> Shape:
        """(channels, *sizes) after the last layer."""
        return self.shapes[-1] if self.shapes else self.shape_in

    def canonical(self) -> list[dict[str, dict[str, Any]]]:
        """The list in its one stored form: repeats written out, registry names, arguments that are not defaults."""
        result = []
        for item, layer in zip(self.items, self, strict=True):
            target = LAYERS.get(item.name)
            given = not_default(target, shortest(target, arguments(target, item.given, item.place)))
            nested = {name: network.canonical() for name, network in layer.nested().items()}
            result.append({item.name: plain({**given, **nested})})
        return result

    def reach(self) -> Reach | None:
        """What one output position sees of the network's input."""
        return joined(layer.reach() for layer in self)

    def sees_everything(self) -> str | None:
        """The first layer of which an output may depend on the whole image, as the user wrote it; None without one."""
        found = (item.where for item, layer in zip(self.items, self, strict=True) if sees_everything(layer))
        return next(found, None)

    def __iter__(self) -> Iterator[Layer]:
        return super().__iter__()  # type: ignore[return-value]


def _contexts(
    layers: Sequence[nn.Module],
) -> tuple[contextlib.AbstractContextManager[None], contextlib.AbstractContextManager[None]]:
    """What surrounds the first pass through some layers, and the second, which moves no statistics."""
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


def flat(layers: Sequence[Any], side: str, place: str = "") -> Iterator[Item]:
    """The items of a list as a person writes it, repeats written out.

    Raises:
        ConfigError: something in the list is no layer.
    """
    if not isinstance(layers, Sequence) or isinstance(layers, str):
        raise ConfigError(f"{side}: needs a list of layers, got {short_repr(layers)}")
    for index, written in enumerate(layers):
        here = f"{place}{index}"
        where = f"{side} layer {here}"
        if isinstance(written, str) and is_code(written):
            times, code = read_code(written, where)
            for time in range(times):
                yield Item(code.layer, code.given, here if times == 1 else f"{here}.{time}", code)
            continue
        name, given = _entry(written, where)
        if name == "repeat":
            times, inner = _repeated(given, where)
            yield from flat(inner * times, side, f"{here}.")
        else:
            yield Item(name, given, here, original=getattr(written, "original", None))


def within_limits(layers: Any, side: str) -> None:
    """Checks that a list, with all lists inside it and its repeats, is no larger and deeper than any honest one.

    Raises:
        ConfigError: it is.
    """
    if _weight(layers, side, 0) > MAX_LAYERS:
        raise ConfigError(f"{side}: more than {MAX_LAYERS} layers, those of inner lists and repeats counted")


def _weight(value: Any, side: str, depth: int) -> int:
    """How many entries a list comes to; counting ends soon after the limit."""
    if depth > MAX_DEPTH:
        raise ConfigError(f"{side}: lists inside lists, more than {MAX_DEPTH} deep")
    total, times = 1, 1
    if isinstance(value, Mapping):
        given = value.get("repeat")
        if isinstance(given, Mapping) and isinstance(given.get("times"), int):
            times = max(1, given["times"])
        value = value.values()
    elif isinstance(value, str) and is_code(value):
        return repeats(value)
    elif not isinstance(value, Sequence) or isinstance(value, str):
        return total
    for inner in value:
        total += _weight(inner, side, depth + 1)
        if total > MAX_LAYERS * 10:
            break
    return total * times


def _entry(written: Any, where: str) -> tuple[str, dict[str, Any]]:
    """The name and the arguments of one entry of a list."""
    if isinstance(written, str):
        return canonical_name(written), {}
    if isinstance(written, Mapping) and len(written) > 1 and any(given is None for given in written.values()):
        # `conv:` and its arguments in one column are, to YAML, one mapping in which `conv` has no value.
        raise ConfigError(f"{where}: indent the arguments under their layer's name, got {one_line(flow_repr(written))}")
    if not isinstance(written, Mapping) or len(written) != 1:
        raise ConfigError(
            f"{where}: needs a layer's name or a mapping of it to its arguments, got {short_repr(written)}"
        )
    ((name, given),) = written.items()
    if isinstance(name, str) and is_code(name):
        raise ConfigError(f"{where}: a layer code stands alone, without a colon, got {short_repr(written)}")
    if not isinstance(name, str) or not isinstance(given, Mapping | None) or not _all_text(given or ()):
        raise ConfigError(f"{where}: the arguments of {name} must be a mapping, got {short_repr(given)}")
    return canonical_name(name), dict(given or {})


def _all_text(values: Iterable[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _repeated(given: Mapping[str, Any], where: str) -> tuple[int, list[Any]]:
    """The count and the list of a `repeat`."""
    times, inner = given.get("times"), given.get("layers")
    if not isinstance(times, int) or isinstance(times, bool) or not isinstance(inner, list) or len(given) != 2:
        raise ConfigError(
            f"{where}: repeat needs times (a whole number) and layers (a list), got {short_repr(dict(given))}"
        )
    if not 1 <= times * len(inner) <= MAX_LAYERS:
        raise ConfigError(f"{where}: repeat needs 1 to {MAX_LAYERS} layers in all, got {times} × {len(inner)}")
    return times, inner


def _fitted(item: Item, shape: Shape, where: str) -> tuple[Layer, Shape]:
    """The layer for `item`, and the shape that it makes of `shape`."""
    try:
        target = LAYERS.get(item.name)
    except ConfigError as error:
        raise type(error)(f"{where}: {error}") from error
    if item.code is not None:
        _expected(item.code, shape, where)
    given = arguments(target, item.given, where)
    with told(where, shape):
        layer: Layer = target(shape, **given)
        layer.configuration = given
        # Two images, since a batch norm in training refuses one value for each channel. On the meta device a batch
        # norm costs more than the convolution before it, and the first linear layer a second of imports.
        out = layer.shape_out() or tuple(layer(torch.empty(2, *shape)).shape[1:])
    if 0 in out:
        raise ShapeError(f"{where}: turns {shape_text(shape)} into the empty shape {shape_text(out)}")
    return layer, out


@contextlib.contextmanager
def told(where: str, shape: Shape = ()) -> Iterator[None]:
    """Says where a part of a model could not be made, and of what shape, whatever the library has to say of it."""
    try:
        yield
    except (ConfigError, ShapeError) as error:
        raise type(error)(f"{where}: {error}") from error
    except (RuntimeError, ValueError, OverflowError) as error:
        fault = f"cannot take the shape {shape_text(shape)}" if shape else "cannot be made"
        huge = "overflow" in str(error).lower()
        reason = "larger than any memory" if huge else str(error).partition("\n")[0]
        raise ShapeError(f"{where}: {fault} ({reason})") from error


def _expected(code: Code, shape: Shape, where: str) -> None:
    """Checks that what a code says will reach it does."""
    if code.axes not in (None, len(shape) - 1):
        raise ShapeError(f"{where}: needs {code.axes} spatial axes, but {shape_text(shape)} reaches it")
    if code.channels not in (None, shape[0]):
        raise ShapeError(f"{where}: needs {code.channels} channels, but {shape_text(shape)} reaches it")


def shortest(target: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments with one number in place of equal numbers for each axis, and layers among them without defaults."""
    result = dict(given)
    for name, value in given.items():
        if isinstance(value, Mapping) and len(value) == 1 and next(iter(value)) in LAYERS:
            layer, inner = _entry(value, name)
            kind = LAYERS.get(layer)
            rest = not_default(kind, shortest(kind, arguments(kind, inner, name)))
            result[name] = {layer: rest} if rest else layer
        elif isinstance(value, tuple) and len(set(value)) == 1:
            with contextlib.suppress(ConfigError):
                result = arguments(target, {**result, name: value[0]}, name)
    return result


def plain(value: Any) -> Any:
    """`value` with tuples as lists, so that the stored form is what JSON and YAML give back."""
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value


def count(module: nn.Module) -> int:
    """Number of parameters, each shared one once."""
    return sum(math.prod(parameter.shape) for parameter in module.parameters())
