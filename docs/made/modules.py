"""The public names of convae, for autodoc: what `__all__` lists, and what the registries find."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from typing import Any

from torch.nn import Module

from convae.core.registry import Registry
from convae.model.vae import VAE
from made.docstrings import docstring
from made.tables import table


@functools.cache  # each look goes through all files on the path
def public_modules() -> tuple[str, ...]:
    """Every module and package whose `__all__` has names, sorted; the command line has none but `main`."""
    import convae

    found = [
        module.name for module in pkgutil.walk_packages(convae.__path__, "convae.") if not _is_private(module.name)
    ]
    offered = [name for name in found if getattr(importlib.import_module(name), "__all__", None)]
    return ("convae", *sorted(offered))


def _is_private(name: str) -> bool:
    parts = name.split(".")[1:]
    return parts[0] in ("cli", "__main__") or any(part.startswith("_") for part in parts)


def homes() -> dict[int, str]:
    """Where each public class and function is documented, by its `id`: the first place below `convae`."""
    found: dict[int, str] = {}
    for module in (*public_modules()[1:], "convae"):
        offered = importlib.import_module(module)
        for name in offered.__all__:
            found.setdefault(id(getattr(offered, name, None)), f"{module}.{name}")
    return found


def model_bases(thing: type) -> tuple[type, ...]:
    """The bases of `VAE` that are not public themselves: their members are documented with the class."""
    return VAE.__mro__[1 : VAE.__mro__.index(Module)] if thing is VAE else ()


def entries(registry: Registry) -> dict[str, Any]:
    """The classes or functions of convae's own that a registry finds, by their place."""
    own = (registry.get(name) for name in registry.own_names())
    return {f"{entry.__module__}.{entry.__name__}": entry for entry in own}


def api(package: str, inner: bool = True) -> str:
    """Every public name of a package and of the packages in it.

    Args:
        package: dotted name; the page's own heading is for the package itself.
        inner: whether the packages in it are on the page, too.
    """
    known = homes()
    parts = []
    for module in public_modules():
        if module != package and not (inner and module.startswith(f"{package}.")):
            continue
        offered = importlib.import_module(module)
        if module != package:
            parts.append(f"## `{module}`\n")
        parts.append(f"{docstring(offered).text}\n")
        for name in offered.__all__:
            thing, place = getattr(offered, name, None), f"{module}.{name}"
            if f"{place}" in public_modules():
                continue  # a module, which has a heading of its own
            if isinstance(thing, Registry) and module.count(".") > 1:
                parts += [_directive(where, entry) for where, entry in entries(thing).items()]
            elif known[id(thing)] == place or not (inspect.isclass(thing) or inspect.isfunction(thing)):
                parts.append(_directive(place, thing))
    return "\n".join(parts)


def _directive(place: str, thing: Any) -> str:
    if inspect.isclass(thing):
        kind = "autoexception" if issubclass(thing, Exception) else "autoclass"
        inherited = "   :inherited-members: Module\n" if model_bases(thing) else ""
        return f"```{{eval-rst}}\n.. {kind}:: {place}\n   :members:\n{inherited}```\n"
    if inspect.isfunction(thing):
        return f"```{{eval-rst}}\n.. autofunction:: {place}\n```\n"
    return f"```{{eval-rst}}\n.. py:data:: {place}\n```\n"


def public(package: str) -> str:
    """One row for each class and function that a package offers: a link to its documentation, and what it is.

    Args:
        package: dotted name of a package with `__all__`.
    """
    offered = importlib.import_module(package)
    known = homes()
    rows = []
    for name in offered.__all__:
        thing = getattr(offered, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            link = f"{{py:obj}}`{name} <{known[id(thing)]}>`"
            rows.append([link, docstring(thing).text.partition("\n\n")[0]])
    return table([f"`{package}`", ""], rows)
