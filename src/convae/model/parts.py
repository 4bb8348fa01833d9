"""What stands around encoder and decoder, made of its description on the meta device, and written down again."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from convae.core.arguments import Named, arguments, named, not_default
from convae.core.description import Spec, to_plain
from convae.core.errors import ConfigError, ShapeError
from convae.core.names import shape_text
from convae.core.registry import canonical_name
from convae.core.types import Shape
from convae.model.condition import Condition
from convae.model.layers.base.network import Network, error_context


def condition(spec: Spec) -> Condition:
    """The condition, on the meta device."""
    if spec.classifier is not None:
        raise ConfigError(
            f"model '{spec.name}' has a condition and a classifier: the classifier would look in the latent for what "
            "the condition keeps out of it; leave one of them out"
        )
    given = arguments(Condition, spec.condition, "condition")
    with torch.device("meta"), error_context("condition"):
        return Condition(**given)


def classifier(shape: Shape, layers: list[Any]) -> Network:
    """The layers from a latent to a value for each class, on the meta device."""
    network = Network(shape, layers, "classifier")
    if len(network.shape_out) != 1:
        raise ShapeError(f"classifier gives {shape_text(network.shape_out)}: end it with a value for each class")
    return network


def part(registry: Any, written: Named, kind: str, *shape: Shape) -> Any:
    """A bottleneck or a likelihood head, on the meta device."""
    name, given = named(written, kind)
    target = registry.get(name)
    checked = arguments(target, given, f"{kind} {name}")
    with torch.device("meta"), error_context(f"{kind} {name}", *shape):
        return target(*shape, **checked)


def stored_condition(condition: Condition) -> dict[str, Any]:
    """A condition in its one stored form."""
    return not_default(Condition, {"classes": condition.classes, "channels": condition.channels})


def stored(registry: Any, written: Named, kind: str) -> dict[str, dict[str, Any]]:
    """A bottleneck or a likelihood in its one stored form."""
    name, given = named(written, kind)
    target = registry.get(name)
    return {canonical_name(name): to_plain(not_default(target, arguments(target, given, kind)))}


SWITCHES = {"training", "checkpointing", "rows", "synchronised", "counted"}
"""What may be set on a module without changing what its description says."""
Layout = dict[str, tuple[type[nn.Module], dict[str, Any]]]


def layout(model: nn.Module) -> Layout:
    """The type of each module inside a model, and the plain values that it was set to."""
    found: Layout = {}
    for name, module in model.named_modules():
        values = {
            key: value
            for key, value in vars(module).items()
            if not key.startswith("_") and key not in SWITCHES and isinstance(value, bool | int | float | str | tuple)
        }
        found[name] = (type(module), values if name else {})
    return found


def first_change(before: Layout, after: Layout) -> str | None:
    """Where two layouts differ first, in words; None where they do not.

    A module whose class was derived from its own is the same: sharding and hooks do that.
    """
    for name in [*before, *after]:
        if name not in after:
            return f"'{name}' was removed"
        if name not in before:
            return f"'{name}' ({after[name][0].__name__}) was added"
        (kind, values), (new_kind, new_values) = before[name], after[name]
        if not issubclass(new_kind, kind):
            return f"'{name}' was exchanged for {new_kind.__name__}"
        for key in values.keys() | new_values.keys():
            if values.get(key) != new_values.get(key):
                return f"{name}.{key} was set to {new_values.get(key)!r}"
    return None
