"""A network is a list of layers: written by a person, checked on the meta device, then run.

    items ── layer by layer: validate arguments ─> construct on meta ─> run on meta ──> shape for the next layer

The first layer that does not fit is named with its place, as the user wrote it, with the shape it got.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from convae.core.arguments import arguments, not_default
from convae.core.errors import ConfigError, ShapeError
from convae.core.names import shape_text
from convae.core.types import Shape
from convae.model.layers import LAYERS
from convae.model.layers.base import Layer, Reach

MAX_LAYERS = 10_000
"""A longer list is taken for a mistake."""


@dataclass(frozen=True)
class Item:
    """One layer of a list: its name, its arguments as given, and its place in the list as the user wrote it."""

    name: str
    given: Mapping[str, Any]
    place: str

    def __str__(self) -> str:
        given = ", ".join(f"{key}: {json.dumps(value, default=str)}" for key, value in self.given.items())
        return f"{self.name} {{{given}}}" if given else self.name


class Network(nn.Sequential):
    """Layers in a row, each built for the shape that the one before it gives.

    The parameters are on the meta device: they have shapes and no storage until `initialise` gives them values.

    Args:
        shape: (channels, *sizes) of the input, without the batch.
        layers: a list of layers: a name, or a mapping of a name to its arguments; `repeat` repeats a list.
        side: `encoder`, `decoder` or the like, for messages.

    Raises:
        ConfigError: an unknown layer, or wrong arguments for one.
        ShapeError: a layer cannot take the shape that reaches it.
    """

    def __init__(self, shape: Shape, layers: Sequence[Any], side: str) -> None:
        super().__init__()
        self.shape_in = shape
        self.items: list[Item] = []
        self.shapes: list[Shape] = []
        with torch.device("meta"), torch.no_grad():
            for item in flat(layers, side):
                where = f"{side} layer {item.place} ({item})"
                layer, shape = _fitted(item, shape, where)
                self.items.append(item)
                self.shapes.append(shape)
                self.append(layer)

    @property
    def shape_out(self) -> Shape:
        """(channels, *sizes) after the last layer."""
        return self.shapes[-1] if self.shapes else self.shape_in

    def canonical(self) -> list[dict[str, dict[str, Any]]]:
        """The list in its one stored form: repeats written out, registry names, arguments that are not defaults."""
        result = []
        for item, layer in zip(self.items, self, strict=True):
            target = LAYERS.get(item.name)
            shown = not_default(target, arguments(target, item.given, item.place))
            nested = {name: network.canonical() for name, network in layer.nested().items()}
            result.append({item.name: plain({**shown, **nested})})
        return result

    def reach(self) -> Reach | None:
        """What one output position sees of the network's input."""
        return joined(layer.reach() for layer in self)

    def __iter__(self) -> Iterator[Layer]:
        return super().__iter__()  # type: ignore[return-value]


def flat(layers: Sequence[Any], side: str, place: str = "") -> Iterator[Item]:
    """The items of a list as a person writes it, repeats written out.

    Raises:
        ConfigError: something in the list is no layer.
    """
    if not isinstance(layers, Sequence) or isinstance(layers, str):
        raise ConfigError(f"{side}: needs a list of layers, got {layers!r}")
    count = 0
    for index, written in enumerate(layers):
        here = f"{place}{index}"
        name, given = _entry(written, f"{side} layer {here}")
        inner = _repeated(given, f"{side} layer {here}") if name == "repeat" else None
        made = [Item(name, given, here)] if inner is None else flat(inner[1] * inner[0], side, f"{here}.")
        for item in made:
            count += 1
            if count > MAX_LAYERS:
                raise ConfigError(f"{side}: more than {MAX_LAYERS} layers")
            yield item


def _entry(written: Any, where: str) -> tuple[str, dict[str, Any]]:
    """The name and the arguments of one entry of a list."""
    if isinstance(written, str):
        written = {written: {}}
    if not isinstance(written, Mapping) or len(written) != 1:
        raise ConfigError(f"{where}: needs a layer's name or a mapping of it to its arguments, got {written!r}")
    ((name, given),) = written.items()
    if not isinstance(name, str) or not isinstance(given, Mapping | None):
        raise ConfigError(f"{where}: the arguments of {name} must be a mapping, got {given!r}")
    return name.replace("_", "-"), dict(given or {})


def _repeated(given: Mapping[str, Any], where: str) -> tuple[int, list[Any]]:
    """The count and the list of a `repeat`."""
    times, inner = given.get("times"), given.get("layers")
    if set(given) != {"times", "layers"} or not isinstance(times, int) or not isinstance(inner, list):
        raise ConfigError(f"{where}: repeat needs times (a whole number) and layers (a list), got {dict(given)!r}")
    if not 1 <= times * len(inner) <= MAX_LAYERS:
        raise ConfigError(f"{where}: repeat needs 1 to {MAX_LAYERS} layers in all, got {times} × {len(inner)}")
    return times, inner


def _fitted(item: Item, shape: Shape, where: str) -> tuple[Layer, Shape]:
    """The layer for `item`, and the shape that it makes of `shape`."""
    try:
        target = LAYERS.get(item.name)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    given = arguments(target, item.given, where)
    try:
        layer: Layer = target(shape, **given)
        # Two images, since a batch norm in training refuses one value for each channel.
        made = layer(torch.empty(2, *shape))
    except ShapeError as error:
        raise ShapeError(f"{where}: {error}") from error
    except (RuntimeError, ValueError, OverflowError) as error:
        reason = str(error).partition("\n")[0]
        raise ShapeError(f"{where}: cannot take the shape {shape_text(shape)} ({reason})") from error
    out: Shape = tuple(made.shape[1:])
    if 0 in out:
        raise ShapeError(f"{where}: turns {shape_text(shape)} into the empty shape {shape_text(out)}")
    return layer, out


def joined(reaches: Iterable[Reach | None]) -> Reach | None:
    """What several layers in a row see together; None stands for a layer that sees just its own position."""
    total: Reach | None = None
    for reach in reaches:
        if reach is None:
            continue
        if total is None or len(total.kernel) != len(reach.kernel):
            # After a flatten there are no axes left; what was seen before it stays.
            total = reach if total is None else total
            continue
        kernel = (k + (new - 1) * jump for k, new, jump in zip(total.kernel, reach.kernel, total.stride, strict=True))
        stride = (jump * new for jump, new in zip(total.stride, reach.stride, strict=True))
        total = Reach(tuple(kernel), tuple(stride))
    return total


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
