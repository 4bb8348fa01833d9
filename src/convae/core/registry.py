"""Registries: a name is a file of ours, an entry point of an installed package, or a dotted path.

`Registry("convae.model.layers", "layer", "Layer")` finds

1. every file of that package, under the file's name: `leaky_relu.py` is `leaky-relu`;
2. every entry point of the group `convae.layers` that an installed package declares;
3. any class that can be imported, under its path `my_pkg.blocks:MyBlock`.

Nothing is imported before its name is asked for, so listing names costs nothing. A file offers the one public class in
it that derives from the package's `base` class or, where entries are functions, the function that carries the file's
name. Adding an entry is adding a file, here or in another package. `core/trust.py` says whose names may do so.
"""

from __future__ import annotations

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
    """Whether a name says where its entry is, as `my_pkg.blocks:MyBlock` does."""
    return _PATH.fullmatch(name) is not None


def canonical_name(written: str) -> str:
    """A name as it is stored: with hyphens for underscores, but for a dotted path, which stays as it is."""
    return written if is_dotted_path(written) else written.replace("_", "-")


class Registry:
    """The entries of one kind, found by name and imported lazily.

    Args:
        package: dotted name of the package that holds one file per entry.
        kind: what an entry is called in messages, such as `layer`.
        base: name of the class in `<package>.base` that entries derive from; None where entries are functions.
        is_open: whether other packages may add entries, as entry points of `group` or under a dotted path.

    Attributes:
        group: the entry points that belong to it: `convae.` and the last part of the package's name.
    """

    def __init__(self, package: str, kind: str, base: str | None = None, *, is_open: bool = True) -> None:
        self.package = package
        self.kind = kind
        self.group = f"convae.{package.rpartition('.')[2]}"
        self._base = base
        self._is_open = is_open

    @cached_property
    def _files(self) -> dict[str, str]:
        path = importlib.import_module(self.package).__path__
        files = (module.name for module in pkgutil.iter_modules(path))
        # A name that Python keeps for itself is a file with an underscore behind it, as is the habit.
        return {
            name.rstrip("_").replace("_", "-"): name for name in files if name != "base" and not name.startswith("_")
        }

    @property
    def _installed(self) -> dict[str, list[EntryPoint]]:
        """The entry points of other packages by name; several packages may offer one name."""
        found: dict[str, list[EntryPoint]] = {}
        if self._is_open:
            for point in _entry_points(tuple(sys.path)).get(self.group, ()):
                found.setdefault(canonical_name(point.name), []).append(point)
        return found

    def names(self) -> list[str]:
        """All names, those of installed packages among them, sorted; imports no entry."""
        return sorted({*self._files, *self._installed})

    def own_names(self) -> list[str]:
        """The names of convae's own entries, sorted; imports none."""
        return sorted(self._files)

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        written = canonical_name(name)
        return written in self._files or (self._is_open and is_dotted_path(name)) or written in self._installed

    def get(self, name: str) -> Any:
        """The class or function behind `name`; underscores and hyphens are the same.

        Raises:
            ConfigError: nothing has that name, and the message suggests the nearest; or the entry is in another
                package and cannot be imported, or is no such thing.
            TrustError: the name comes from a saved model or a run, and the entry from a package that is not trusted.
        """
        written = canonical_name(str(name))
        offered = self._installed.get(written, [])
        if written in self._files:
            if offered:
                self._warn_of_shadow(written, offered[0])
            return self._own(self._files[written])
        if len(offered) > 1:
            paths = " or ".join(point.value for point in offered)
            raise ConfigError(f"{self.kind} '{name}': several packages offer it: name one by its path, {paths}")
        if offered:
            owner = offered[0].dist.name if offered[0].dist else offered[0].module
            return self._foreign(written, offered[0].value, f"'{written}' of the package {owner} ({offered[0].value})")
        if self._is_open and is_dotted_path(written):
            return self._foreign(written, written, f"'{written}'")
        raise ConfigError(unknown_message(self.kind, str(name), self.names()))

    def summary(self, name: str) -> str:
        """The first line of the entry's docstring."""
        return (inspect.getdoc(self.get(name)) or "").partition("\n")[0]

    def _own(self, file: str) -> Any:
        """The entry of a file of ours."""
        module = importlib.import_module(f"{self.package}.{file}")
        if self._base is None:
            return getattr(module, file)
        found = [
            thing
            for key, thing in vars(module).items()
            if inspect.isclass(thing) and issubclass(thing, self._base_class()) and thing.__module__ == module.__name__
            if not key.startswith("_")
        ]
        if len(found) != 1:
            raise TypeError(f"{module.__name__} must define exactly one {self._base}, found {len(found)}")
        return found[0]

    def _foreign(self, name: str, path: str, called: str) -> Any:
        """The entry at a dotted path of another package.

        Args:
            name: as it is written.
            path: `module:name`.
            called: what messages call it.
        """
        module, _, attribute = path.partition(":")
        package = module.partition(".")[0]
        require_trust(f"the {self.kind} '{name}'", package)
        what = f"{self.kind} {called}"
        try:
            found = getattr(importlib.import_module(module), attribute)
        except AttributeError as error:
            raise ConfigError(f"{what}: the module {module} has no {attribute!r}") from error
        except ModuleNotFoundError as error:
            advice = ""
            if error.name == package:
                advice = ": install it, or run python -m convae in the folder that holds it"
            raise ConfigError(f"{what}: cannot be imported (ModuleNotFoundError: {one_line(error)}){advice}") from error
        except Exception as error:  # whatever foreign code raises when it is imported
            raise ConfigError(f"{what}: cannot be imported ({type(error).__name__}: {one_line(error)})") from error
        if self._base is None:
            if not inspect.isfunction(found):
                raise ConfigError(f"{what}: needs to be a function, is a {type(found).__name__}")
        elif not (inspect.isclass(found) and issubclass(found, self._base_class())):
            raise ConfigError(f"{what}: is no {self._base}: derive a class from {self.package}.base.{self._base}")
        elif inspect.isabstract(found):
            missing = ", ".join(sorted(getattr(found, "__abstractmethods__", ())))
            raise ConfigError(f"{what}: needs to define {missing}")
        remember_package(package)
        return found

    def _base_class(self) -> type:
        base: type = getattr(importlib.import_module(f"{self.package}.base"), self._base or "")
        return base

    def _warn_of_shadow(self, name: str, point: EntryPoint) -> None:
        owner = point.dist.name if point.dist else point.module
        warnings.warn(
            f"the package {owner} offers the {self.kind} '{name}', which is a name of convae's own: convae's is used; "
            f"write {point.value} for the other",
            stacklevel=3,
        )


@cache
def _entry_points(path: tuple[str, ...]) -> dict[str, tuple[EntryPoint, ...]]:
    """The entry points of convae's groups that the packages on `sys.path` declare, looked for once."""
    from importlib.metadata import entry_points

    del path  # which only says when to look again
    found = entry_points()
    return {group: tuple(found.select(group=group)) for group in found.groups if group.startswith("convae.")}
