"""Entries: registered names with arguments, built as objects or in their canonical form."""

from __future__ import annotations

from typing import Any

from convae.core.arguments import Named, drop_defaults, parse_arguments, split_name
from convae.core.description import to_plain
from convae.core.errors import ConfigError, ShapeError
from convae.core.registry import Registry, canonical_name


def build_entry(registry: Registry, written: Named, *args: Any) -> Any:
    """Builds a registered class.

    Args:
        registry: registry of its kind.
        written: its name, or a mapping of the name to its keyword arguments.
        args: positional arguments of the constructor, such as an input shape.

    Raises:
        ConfigError: unknown name or invalid arguments.
        ShapeError: the class does not support a shape in `args`.
    """
    name, given = split_name(written, registry.kind)
    target = registry.get(name)
    arguments = parse_arguments(target, given, f"{registry.kind} {name}")
    try:
        return target(*args, **arguments)
    except (ConfigError, ShapeError) as error:
        raise type(error)(f"{registry.kind} {canonical_name(name)}: {error}") from error


class Entry:
    """Validator of an argument that is an entry: `Annotated[Named, AfterValidator(Entry(registry))]`.

    The canonical form is a mapping of the registered name to the arguments that are not defaults.

    Args:
        registry: registry of its kind.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def __call__(self, written: Named) -> Named:
        """The canonical form.

        Raises:
            ValueError: unknown name or invalid arguments.
        """
        kind = self._registry.kind
        try:
            name, given = split_name(written, kind)
            target = self.target(name)
            arguments = drop_defaults(target, parse_arguments(target, given, f"{kind} {name}"))
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return {canonical_name(name): to_plain(arguments)}

    def target(self, name: str) -> Any:
        """The class of a name.

        Raises:
            ConfigError: unknown name.
        """
        return self._registry.get(name)
