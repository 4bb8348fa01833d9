"""Every module of a room, for autodoc."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator

from made.docstrings import docstring
from made.tables import table


def modules(package: str) -> str:
    """Every public module of a package, and of the packages in it, with its public names.

    Args:
        package: dotted name; the page's own heading is for the package itself.
    """
    parts = []
    for name in _below(package):
        heading = "" if name == package else f"## `{name}`\n\n"
        parts.append(f"{heading}```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n```\n")
    return "\n".join(parts)


def _below(package: str) -> Iterator[str]:
    paths = importlib.import_module(package).__path__
    yield package
    for found in pkgutil.iter_modules(paths):
        if found.name.startswith("_"):
            continue
        if found.ispkg:
            yield from _below(f"{package}.{found.name}")
        else:
            yield f"{package}.{found.name}"


def public(package: str) -> str:
    """One row for each class and function that a package offers: a link to its documentation, and what it is.

    Args:
        package: dotted name of a package with `__all__`.
    """
    offered = importlib.import_module(package)
    rows = []
    for name in offered.__all__:
        thing = getattr(offered, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            link = f"{{py:obj}}`{name} <{thing.__module__}.{name}>`"
            rows.append([link, docstring(thing).text.partition("\n\n")[0]])
    return table([f"`{package}`", ""], rows)
