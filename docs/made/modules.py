"""Every module of a room, for autodoc."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

from made.docstrings import docstring
from made.tables import table


def modules(package: str) -> str:
    """A heading for each public module of a package and of the packages in it, with all its public names.

    Args:
        package: dotted name.
    """
    return "\n".join(f"## `{name}`\n\n```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n```\n" for name in _below(package))


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
    """One row for each name that a package offers: where its documentation is, and its first sentence.

    Args:
        package: dotted name of a package with `__all__`.
    """
    offered = importlib.import_module(package)
    rows = []
    for name in offered.__all__:
        thing = getattr(offered, name)
        home = getattr(thing, "__module__", "")
        link = f"{{py:obj}}`{name} <{home}.{name}>`" if home.startswith("convae") else f"`{name}`"
        rows.append([link, docstring(thing).text.partition("\n\n")[0]])
    return table([f"`{package}`", ""], rows)
