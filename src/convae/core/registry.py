"""Registries: a name is a file of convae, an entry point of an installed package, or a dotted path.

`Registry("convae.model.layers", "layer", "Layer")` finds

1. every file of that package by its name: `leaky_relu.py` is `leaky-relu`;
2. every entry point of the group `convae.layers` in an installed package;
3. any importable class by its path `my_pkg.blocks:MyBlock`.

Modules are imported when their name is looked up, so listing names is cheap. A file defines exactly one public subclass
of the package's base class or, for kinds that are functions, a function with the name of the file. `core/trust.py`
decides which packages a saved model may import.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import pkgutil
import re
import sys
import warnings
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from convae.core.errors import ConfigError
from convae.core.names import one_line, unknown_message
from convae.core.trust import remember_package, require_trust

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def is_dotted_path(name: str) -> bool:
    """Whether a name is a path such as `my_pkg.blocks:MyBlock`."""
    return _PATH.fullmatch(name) is not None


def canonical_name(written: str) -> str:
    """The stored form of a name: hyphens for underscores; dotted paths are unchanged."""
    return written if is_dotted_path(written) else written.replace("_", "-")


class Registry:
    """The classes or functions of one kind by name, imported lazily.

    Args:
        package: dotted name of the package with one file per name.
        kind: name of the kind in messages, such as `layer`.
        base: name of the base class in `<package>.base`; None for kinds that are functions.
        is_open: whether other packages may add names, as entry points of `group` or dotted paths.

    Attributes:
        group: group of its entry points: `convae.` and the last part of the package name.
    """

    def __init__(self, package: str, kind: str, base: str | None = None, *, is_open: bool = True) -> None:
        self.package = package
        self.kind = kind
        self.group = f"convae.{package.rpartition('.')[2]}"
        self._base = base
        self._is_open = is_open
        self._found: dict[str, Any] = {}

    @cached_property
    def _files(self) -> dict[str, str]:
        path = importlib.import_module(self.package).__path__
        files = (module.name for module in pkgutil.iter_modules(path))
        # A Python keyword has a file with a trailing underscore.
        return {
            name.rstrip("_").replace("_", "-"): name for name in files if name != "base" and not name.startswith("_")
        }

    @property
    def _installed(self) -> dict[str, list[EntryPoint]]:
        """The entry points of other packages by name; several packages may provide one name."""
        found: dict[str, list[EntryPoint]] = {}
        if self._is_open:
            for point in _entry_points(tuple(sys.path)).get(self.group, ()):
                found.setdefault(canonical_name(point.name), []).append(point)
        return found

    def names(self) -> list[str]:
        """All names, including those of installed packages, sorted; imports nothing."""
        return sorted({*self._files, *self._installed})

    def own_names(self) -> list[str]:
        """The names that convae itself provides, sorted; imports nothing."""
        return sorted(self._files)

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        written = canonical_name(name)
        return written in self._files or (self._is_open and is_dotted_path(name)) or written in self._installed

    def get(self, name: str) -> Any:
        """The class or function of a name; underscores and hyphens are equivalent.

        Raises:
            ConfigError: unknown name, with the most similar one in the message; or a class of another package that is
                of the wrong kind or cannot be imported.
            TrustError: the name comes from a saved model or a run, and its package is not trusted.
        """
        written = canonical_name(str(name))
        offered = self._installed.get(written, [])
        if written in self._files:
            if offered:
                self._warn_of_shadow(written, offered[0])
            return self._own(self._files[written])
        if len(offered) > 1:
            paths = " or ".join(point.value for point in offered)
            raise ConfigError(f"{self.kind} '{name}': several packages provide it. Write the path: {paths}")
        if offered:
            owner = offered[0].dist.name if offered[0].dist else offered[0].module
            return self._foreign(written, offered[0].value, f"'{written}' of the package {owner} ({offered[0].value})")
        if self._is_open and is_dotted_path(written):
            return self._foreign(written, written, f"'{written}'")
        module, _, attribute = written.rpartition(".")
        if self._is_open and is_dotted_path(path := f"{module}:{attribute}"):
            raise ConfigError(f"unknown {self.kind} '{name}'. Write the path of a class or function as {path}")
        raise ConfigError(unknown_message(self.kind, str(name), self.names()))

    def summary(self, name: str) -> str:
        """The first line of the docstring."""
        return (inspect.getdoc(self.get(name)) or "").partition("\n")[0]

    def _own(self, file: str) -> Any:
        """The class or function of a file of convae; each file is looked through once."""
        if file not in self._found:
            self._found[file] = self._find(file)
        return self._found[file]

    def _find(self, file: str) -> Any:
        module = importlib.import_module(f"{self.package}.{file}")
        if self._base is None:
            return getattr(module, file)
        base = self._base_class()
        found = [
            thing
            for key, thing in vars(module).items()
            if inspect.isclass(thing) and thing.__module__ == module.__name__ and issubclass(thing, base)
            if not key.startswith("_")
        ]
        if len(found) != 1:
            raise TypeError(f"{module.__name__} must define exactly one {self._base}, found {len(found)}")
        return found[0]

    def _foreign(self, name: str, path: str, called: str) -> Any:
        """The class or function at a dotted path of another package.

        Args:
            name: the name as written.
            path: `module:name`.
            called: its name in messages.
        """
        module, _, attribute = path.partition(":")
        package = module.partition(".")[0]
        require_trust(f"the {self.kind} '{name}'", package)
        what = f"{self.kind} {called}"
        try:
            found = getattr(_import_foreign(module), attribute)
        except AttributeError as error:
            raise ConfigError(f"{what}: the module {module} has no {attribute!r}") from error
        except ModuleNotFoundError as error:
            advice = ""
            if error.name == package:
                advice = ". Install it, or run python -m convae in the folder that contains it"
            raise ConfigError(f"{what}: cannot be imported (ModuleNotFoundError: {one_line(error)}){advice}") from error
        except Exception as error:  # foreign code may raise anything on import
            raise ConfigError(f"{what}: cannot be imported ({type(error).__name__}: {one_line(error)})") from error
        if self._base is None:
            if not inspect.isfunction(found):
                raise ConfigError(f"{what}: must be a function, got a {type(found).__name__}")
        elif not (inspect.isclass(found) and issubclass(found, self._base_class())):
            raise ConfigError(f"{what}: must be a subclass of {self.package}.base.{self._base}")
        elif inspect.isabstract(found):
            missing = ", ".join(sorted(getattr(found, "__abstractmethods__", ())))
            raise ConfigError(f"{what}: must define {missing}")
        remember_package(package)
        return found

    def _base_class(self) -> type:
        base: type = getattr(importlib.import_module(f"{self.package}.base"), self._base or "")
        return base

    def _warn_of_shadow(self, name: str, point: EntryPoint) -> None:
        owner = point.dist.name if point.dist else point.module
        warnings.warn(
            f"the package {owner} provides the {self.kind} '{name}', which convae provides as well; convae's is used. "
            f"Write {point.value} for the other",
            stacklevel=3,
        )


def _import_foreign(module: str) -> Any:
    """Imports a module of another package; its own tensors get values, also where models are made without them."""
    torch = sys.modules.get("torch")
    with contextlib.nullcontext() if torch is None else torch.device("cpu"):
        return importlib.import_module(module)


@cache
def _entry_points(path: tuple[str, ...]) -> dict[str, tuple[EntryPoint, ...]]:
    """The entry points in convae's groups of all packages on `sys.path`, cached."""
    from importlib.metadata import entry_points

    del path  # only the key of the cache
    found = entry_points()
    return {group: tuple(found.select(group=group)) for group in found.groups if group.startswith("convae.")}
