"""convae's own notation: mappings with lists of layers, as YAML and JSON have them.

An entry of a list is a layer's name, a mapping of the name to its arguments, a layer code, or
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
    """What has to be known of the layers that exist in order to read lists of them."""

    def __contains__(self, name: object) -> bool:
        """Whether there is a layer of that name."""

    def list_arguments(self, name: str) -> Collection[str]:
        """The names of a layer's arguments that are lists of layers themselves; none where there is no such layer."""


def read_list(written: Any, side: str, catalog: LayerCatalog) -> list[LayerSpec]:
    """The layers of a list as a person writes it, in one plain list: repeats written out, codes replaced.

    Args:
        written: the list.
        side: what it is called, such as `encoder`, for messages.
        catalog: the layers that exist.

    Raises:
        ConfigError: it is no list, something in it is no layer, or it is larger or deeper than any real one.
    """
    check_limits(written, side, lambda entry: _count_times(entry, catalog))
    return _read_list(written, side, catalog, "")


def _read_list(written: Any, side: str, catalog: LayerCatalog, outer: str) -> list[LayerSpec]:
    require_list(written, side)
    layers: list[LayerSpec] = []
    for number, entry in enumerate(written):
        index = f"{outer}{number}"
        if isinstance(entry, str) and is_code(entry, catalog):
            layers += read_code(entry, side, index)
            continue
        layer = read_layer(entry, side, f"layer {index}")
        if layer.name == "repeat":
            layers += _read_list(_repeat(layer, side), side, catalog, f"{index}.")
        elif is_code(layer.name, catalog):
            raise ConfigError(
                f"{side} {layer.place}: a layer code stands alone, without a colon, got {short_repr(entry)}"
            )
        else:
            layers.append(_read_inner_lists(layer, side, catalog))
    return layers


def _read_inner_lists(layer: LayerSpec, side: str, catalog: LayerCatalog) -> LayerSpec:
    """A layer with the lists of layers among its arguments read."""
    inner = {
        name: _read_list(layer.arguments[name], f"{side} {layer.place} ({layer.name}): {name}", catalog, "")
        for name in catalog.list_arguments(layer.name)
        if name in layer.arguments
    }
    return replace(layer, arguments={**layer.arguments, **inner}) if inner else layer


def _repeat(layer: LayerSpec, side: str) -> list[Any]:
    """The entries of a `repeat`, as often as it says."""
    where, given = f"{side} {layer.place}", layer.arguments
    times, inner = given.get("times"), given.get("layers")
    if not isinstance(times, int) or isinstance(times, bool) or not isinstance(inner, list) or len(given) != 2:
        raise ConfigError(
            f"{where}: repeat needs times (a whole number) and layers (a list), got {short_repr(dict(given))}"
        )
    if not 1 <= times * len(inner) <= MAX_LAYERS:
        raise ConfigError(f"{where}: repeat needs 1 to {MAX_LAYERS} layers in all, got {times} × {len(inner)}")
    return inner * times


def _count_times(entry: Any, catalog: LayerCatalog) -> int:
    """How often an entry of a list is repeated."""
    if isinstance(entry, str):
        return count_repeats(entry) if is_code(entry, catalog) else 1
    given = entry.get("repeat") if isinstance(entry, Mapping) else None
    times = given.get("times") if isinstance(given, Mapping) else None
    return max(1, times) if isinstance(times, int) else 1


def write_yaml(spec: Spec) -> str:
    """The stored form of a model as YAML, one layer a line where it fits."""
    lines = []
    for key, value in spec.model_dump(mode="json").items():
        if key in ("encoder", "decoder"):
            lines += [f"{key}:", *(_write_entry(item) for item in value)] if value else [f"{key}: []"]
        else:
            lines.append(_write_flow({key: value})[1:-1])
    return "\n".join([*lines, ""])


def _write_entry(item: Any) -> str:
    """One layer of a list: a bare name without arguments, else in one line, or else in several."""
    if isinstance(item, Mapping) and not any(item.values()):
        (item,) = item
    line = f"  - {_write_flow(item)[1:-1] if isinstance(item, Mapping) else item}"
    if len(line) <= WIDTH:
        return line
    return textwrap.indent(safe_dump([item], sort_keys=False, default_flow_style=None, width=WIDTH), "  ").rstrip()


def _write_flow(value: Any) -> str:
    """A value in one line."""
    return safe_dump(value, sort_keys=False, default_flow_style=True, width=math.inf).removesuffix("\n...\n").strip()
