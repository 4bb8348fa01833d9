"""convae's own notation: mappings with lists of layers, as in YAML and JSON.

An item of a list is a layer name, a mapping of the name to its arguments, a layer code, or
`repeat: {times: 3, layers: [...]}`.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

from yaml import safe_dump

from convae.core.description import MAX_LAYERS, LayerSpec, Spec, check_limits, read_layer, require_list
from convae.core.errors import ConfigError
from convae.core.names import short_repr
from convae.notations.layer_codes import count_repeats, is_code, read_code

WIDTH = 110


@runtime_checkable
class LayerCatalog(Protocol):
    """The registered layers, as far as reading a list needs them."""

    def __contains__(self, name: object) -> bool:
        """Whether a layer has this name."""

    def list_arguments(self, name: str) -> Collection[str]:
        """The arguments of a layer that are lists of layers; empty for an unknown layer."""


def read_list(written: Any, side: str, catalog: LayerCatalog) -> list[LayerSpec]:
    """Reads a list of layers as a user writes it into a plain list: repeats written out, codes replaced.

    Args:
        written: the list.
        side: path of the list, such as `model.encoder`, for messages.
        catalog: the registered layers.

    Raises:
        ConfigError: not a list, an item is not a layer, or the list exceeds the limits of `check_limits`.
    """
    check_limits(written, side, lambda item: _count_times(item, catalog))
    return _read_list(written, side, catalog, "")


def _read_list(written: Any, side: str, catalog: LayerCatalog, outer: str) -> list[LayerSpec]:
    require_list(written, side)
    layers: list[LayerSpec] = []
    for index, item in enumerate(written):
        place = f"{outer}[{index}]"
        if isinstance(item, str) and is_code(item, catalog):
            layers += read_code(item, side, place)
            continue
        layer = read_layer(item, side, place)
        if layer.name == "repeat":
            layers += _read_list(_repeat(layer, side), side, catalog, place)
        elif is_code(layer.name, catalog):
            raise ConfigError(
                f"{side}{place}: a layer code takes no arguments, got {short_repr(item)}. Remove the colon"
            )
        else:
            layers.append(_read_inner_lists(layer, side, catalog))
    return layers


def _read_inner_lists(layer: LayerSpec, side: str, catalog: LayerCatalog) -> LayerSpec:
    """Reads the arguments of a layer that are lists of layers."""
    inner = {
        name: _read_list(layer.arguments[name], f"{layer.location(side)}: {name}", catalog, "")
        for name in catalog.list_arguments(layer.name)
        if layer.arguments.get(name) is not None
    }
    return replace(layer, arguments={**layer.arguments, **inner}) if inner else layer


def _repeat(layer: LayerSpec, side: str) -> list[Any]:
    """The items of a `repeat`, repeated."""
    where, given = layer.location(side), layer.arguments
    times, inner = given.get("times"), given.get("layers")
    if not isinstance(times, int) or isinstance(times, bool) or not isinstance(inner, list) or len(given) != 2:
        raise ConfigError(f"{where}: expected times (an integer) and layers (a list), got {short_repr(dict(given))}")
    if not 1 <= times * len(inner) <= MAX_LAYERS:
        raise ConfigError(f"{where}: expected 1 to {MAX_LAYERS} layers in total, got {times} × {len(inner)}")
    return inner * times


def _count_times(item: Any, catalog: LayerCatalog) -> int:
    """How often an item of a list is repeated."""
    if isinstance(item, str):
        return count_repeats(item) if is_code(item, catalog) else 1
    given = item.get("repeat") if isinstance(item, Mapping) else None
    times = given.get("times") if isinstance(given, Mapping) else None
    return max(1, times) if isinstance(times, int) else 1


def write_yaml(spec: Spec) -> str:
    """Writes the stored form of a model as YAML, one line per layer if it fits."""
    lines = []
    for key, value in spec.model_dump(mode="json").items():
        if key in ("encoder", "decoder"):
            lines += [f"{key}:", *(_write_item(item) for item in value)] if value else [f"{key}: []"]
        else:
            lines.append(_write_flow({key: value})[1:-1])
    return "\n".join([*lines, ""])


def _write_item(item: Any) -> str:
    """One layer of a list: a name, a mapping on one line, or, if it is too long, on several."""
    if isinstance(item, Mapping) and not any(item.values()):
        (item,) = item
    line = f"  - {_write_flow(item)[1:-1] if isinstance(item, Mapping) else item}"
    if len(line) <= WIDTH:
        return line
    return textwrap.indent(safe_dump([item], sort_keys=False, default_flow_style=None, width=WIDTH), "  ").rstrip()


def _write_flow(value: Any) -> str:
    """A value on one line."""
    return safe_dump(value, sort_keys=False, default_flow_style=True, width=math.inf).removesuffix("\n...\n").strip()
