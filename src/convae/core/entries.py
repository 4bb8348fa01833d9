"""The stored form of a registered name with its arguments."""

from __future__ import annotations

from convae.core.arguments import Named, drop_defaults, parse_arguments, split_name
from convae.core.description import to_plain
from convae.core.errors import ConfigError
from convae.core.registry import Registry, canonical_name


def canonical_entry(registry: Registry, written: Named) -> Named:
    """An entry in its one stored form: a mapping of its registry name to the arguments that are not defaults.

    It validates an argument that is itself an entry: `Annotated[Named, AfterValidator(partial(canonical_entry, …))]`.

    Raises:
        ValueError: there is no such entry, or its arguments are wrong.
    """
    try:
        name, given = split_name(written, registry.kind)
        target = registry.get(name)
        arguments = drop_defaults(target, parse_arguments(target, given, f"{registry.kind} {name}"))
    except ConfigError as error:
        raise ValueError(str(error)) from error
    return {canonical_name(name): to_plain(arguments)}
