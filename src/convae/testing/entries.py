"""What the checks share: the entry that is checked under a name, and what every entry keeps."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from convae.core.errors import ConvaeError
from convae.core.registry import Registry, canonical_name


def require(condition: object, message: str) -> None:
    """Raises `AssertionError` with a message unless a condition is true."""
    if not condition:
        raise AssertionError(message)


@contextlib.contextmanager
def no_errors(where: str) -> Iterator[None]:
    """Turns convae's errors into `AssertionError`, with what was being done."""
    try:
        yield
    except ConvaeError as error:
        raise AssertionError(f"{where}: {error}") from error


def name_of(registry: Registry, entry: str | Callable[..., Any]) -> str:
    """The name under which an entry of a registry is found: as it is given, its file's, or its dotted path.

    Raises:
        AssertionError: it is not found under that name, or does not say in its docstring what it is.
    """
    if isinstance(entry, str):
        name = canonical_name(entry)
    elif entry.__module__.startswith(f"{registry.package}."):
        name = canonical_name(entry.__module__.rpartition(".")[2].rstrip("_"))
    else:
        name = f"{entry.__module__}:{entry.__qualname__}"
        require("<locals>" not in name, f"{name}: define it at the top level of a module, so that a recipe can name it")
    with no_errors(f"{registry.kind} {name}"):
        found = registry.get(name)
    require(isinstance(entry, str) or found is entry, f"{name} is found as {found!r}, not as {entry!r}")
    summary = (inspect.getdoc(found) or "").partition("\n")[0]
    require(
        len(summary) > 15 and summary.endswith("."),
        f"{name}: needs a docstring whose first line is a sentence on what it is, got {summary!r}",
    )
    return name
