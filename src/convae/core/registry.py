"""Registries: a name is a file.

`Registry("convae.model.layers", base="Layer")` offers every file of that package under the file's name
(`leaky_relu.py` is `leaky-relu`). A file is imported when its name is first asked for, so listing names
costs nothing. What a file offers is the one public class in it that derives from the package's `base`
class, or, without a base, the function that carries the file's name. Adding an entry is adding a file.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from functools import cached_property
from typing import Any

from convae.core.errors import ConfigError
from convae.core.names import unknown


class Registry:
    """The entries of one package, found by file name and imported lazily.

    Args:
        package: dotted name of the package that holds one file per entry.
        kind: what an entry is called in messages, such as `layer`.
        base: name of the class in `<package>.base` that entries derive from; None where entries are functions.
    """

    def __init__(self, package: str, kind: str, base: str | None = None) -> None:
        self.package = package
        self.kind = kind
        self._base = base

    @cached_property
    def _files(self) -> dict[str, str]:
        path = importlib.import_module(self.package).__path__
        files = (module.name for module in pkgutil.iter_modules(path))
        # A name that Python keeps for itself is a file with an underscore behind it, as is the habit.
        return {
            name.rstrip("_").replace("_", "-"): name for name in files if name != "base" and not name.startswith("_")
        }

    def names(self) -> list[str]:
        """All names, sorted; imports no entry."""
        return sorted(self._files)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.replace("_", "-") in self._files

    def get(self, name: str) -> Any:
        """The class or function behind `name`; underscores and hyphens are the same.

        Raises:
            ConfigError: no file has that name; the message suggests the nearest.
        """
        file = self._files.get(str(name).replace("_", "-"))
        if file is None:
            raise ConfigError(unknown(self.kind, str(name), self.names()))
        module = importlib.import_module(f"{self.package}.{file}")
        if self._base is None:
            return getattr(module, file)
        base = getattr(importlib.import_module(f"{self.package}.base"), self._base)
        found = [
            thing
            for key, thing in vars(module).items()
            if inspect.isclass(thing) and issubclass(thing, base) and thing.__module__ == module.__name__
            if not key.startswith("_")
        ]
        if len(found) != 1:
            raise TypeError(f"{module.__name__} must define exactly one {self._base}, found {len(found)}")
        return found[0]

    def summary(self, name: str) -> str:
        """The first line of the entry's docstring."""
        return (inspect.getdoc(self.get(name)) or "").partition("\n")[0]
