"""The description that a model was built from, valid as long as its parts stay as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from convae.core.arguments import Named, drop_defaults, parse_arguments, split_name
from convae.core.description import Spec, to_plain
from convae.core.errors import ConfigError
from convae.core.registry import canonical_name
from convae.model.bottlenecks import BOTTLENECKS
from convae.model.condition import Condition
from convae.model.likelihoods import LIKELIHOODS
from convae.model.parts import long_bottleneck
from convae.model.priors import PRIORS

_SWITCHES = {"training", "checkpointing", "compile_mode", "rows"}
"""Attributes of a module that are not part of its description."""
_PLAIN = (bool, int, float, str, tuple)
"""Types of the attribute values that are part of it."""
_Layout = dict[str, tuple[type[nn.Module], dict[str, Any]]]
"""Type and attribute values of each module, by name."""


@dataclass(frozen=True)
class ModelDescription:
    """The description of a model, and the layout that its modules had when it was built.

    Attributes:
        written: the description as it was given.
        layout: type and plain attribute values of each module, by name.
    """

    written: Spec
    layout: _Layout

    @classmethod
    def of(cls, model: nn.Module, written: Spec) -> ModelDescription:
        """The description of a model as it is now."""
        return cls(written, _layout(model))

    def canonical(self, model: Any) -> Spec:
        """The canonical description of the model: presets and repeats expanded.

        Raises:
            ConfigError: the model was changed after it was built.
        """
        if (changed := _first_change(self.layout, _layout(model))) is not None:
            raise ConfigError(
                f"model '{model.name}': {changed} after the model was built, so it no longer matches its description. "
                "Describe the change (convae.build), or save model.state_dict() with your own code"
            )
        return _stored_spec(model, self.written)


def _stored_spec(model: Any, described: Spec) -> Spec:
    """The canonical description of a model: presets and repeats expanded."""
    prior = None if described.prior is None else _stored_entry(PRIORS, described.prior, "prior")
    return described.model_copy(
        update={
            "name": model.name,
            "encoder": model.encoder.canonical(),
            "bottleneck": _stored_entry(BOTTLENECKS, long_bottleneck(described.bottleneck), "bottleneck"),
            "decoder": model.decoder.canonical(),
            "likelihood": _stored_entry(LIKELIHOODS, described.likelihood, "likelihood"),
            "prior": prior,
            "classifier": None if model.classifier is None else model.classifier.canonical(),
            "condition": None if model.condition is None else _stored_condition(model.condition),
        }
    )


def _stored_condition(condition: Condition) -> dict[str, Any]:
    """The canonical description of a condition."""
    return drop_defaults(Condition, {"classes": condition.classes, "channels": condition.channels})


def _stored_entry(registry: Any, written: Named, kind: str) -> dict[str, dict[str, Any]]:
    """The canonical description of a bottleneck, a likelihood or a prior."""
    name, given = split_name(written, kind)
    target = registry.get(name)
    return {canonical_name(name): to_plain(drop_defaults(target, parse_arguments(target, given, kind)))}


def _layout(model: nn.Module) -> _Layout:
    """Type and plain attribute values of each module of a model, by name."""
    found: _Layout = {}
    for name, module in model.named_modules():
        if ".parametrizations" in name:  # adapters, which become part of the weights when the model is saved
            continue
        values = {
            key: value
            for key, value in vars(module).items()
            if not key.startswith("_") and key not in _SWITCHES and isinstance(value, _PLAIN)
        }
        found[name] = (type(module), values if name else {})
    return found


def _first_change(before: _Layout, after: _Layout) -> str | None:
    """The first difference of two layouts, for messages; None without one.

    A subclass of the original class counts as equal, since sharding and hooks derive classes.
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
