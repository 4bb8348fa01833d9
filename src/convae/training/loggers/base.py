"""The interface of loggers, and loggers through modules with the functions `init`, `log` and `finish`."""

from __future__ import annotations

import contextlib
import importlib
import json
import secrets
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from convae.core.arguments import Named, parse_arguments, split_name
from convae.core.errors import ConfigError
from convae.core.files import read_bytes, write_json
from convae.core.names import one_line
from convae.training.loggers import LOGGERS

_IDENTITY = "run.json"
"""File with the identity of the run, so that a resumed run continues the same one."""


@dataclass(frozen=True)
class LoggedRun:
    """The run that a logger writes about.

    Attributes:
        title: title of the run.
        folder: folder for the files of the logger; created with the first of them. It remains when a run is resumed.
        recipe: the recipe with every option.
        step: step at which the run begins or continues.
    """

    title: str
    folder: Path
    recipe: Mapping[str, Any]
    step: int


class Logger(ABC):
    """Sends metrics and pictures of a run to another program.

    Keyword-only parameters of the constructor are the options in a recipe.

    Attributes:
        example: the smallest options.
        package: module that the logger needs.
        extra: the extra of convae that installs it; None for loggers of other packages.
    """

    example: ClassVar[Mapping[str, Any]] = {}
    package: ClassVar[str]
    extra: ClassVar[str | None] = None

    @classmethod
    def import_package(cls) -> Any:
        """Imports the module that the logger needs.

        Raises:
            ConfigError: it is not installed.
        """
        try:
            return importlib.import_module(cls.package)
        except ImportError as error:
            wanted = f"'convae[{cls.extra}]'" if cls.extra else cls.package
            raise ConfigError(f"training.loggers: {cls.package} is not installed. Run pip install {wanted}") from error

    @abstractmethod
    def start(self, run: LoggedRun) -> None:
        """Begins, or continues what was written about the run before.

        Raises:
            ConfigError: it is not possible, for instance because the user is not logged in.
        """

    @abstractmethod
    def write(self, metrics: Mapping[str, float], step: int) -> None:
        """Writes metrics by name, such as `validation/kl`, at a step."""

    @abstractmethod
    def write_picture(self, name: str, path: Path, step: int) -> None:
        """Writes a picture.

        Args:
            name: such as `reconstructions`.
            path: PNG file.
            step: step at which it was drawn.
        """

    @abstractmethod
    def close(self) -> None:
        """Writes what is left."""


def build_loggers(written: Sequence[Named]) -> dict[str, Logger]:
    """Builds loggers by name, as in `training.loggers` of a recipe, and checks that their packages are installed.

    Raises:
        ConfigError: an unknown name, a name given twice, wrong options, or a package is not installed.
    """
    found: dict[str, Logger] = {}
    for number, each in enumerate(written):
        where = f"training.loggers[{number}]"
        name, given = split_name(each, where)
        if name in found:
            raise ConfigError(f"{where}: {name} is given twice")
        kind: type[Logger] = LOGGERS.get(name)
        found[name] = kind(**parse_arguments(kind, given, f"{where}.{name}"))
        kind.import_package()
    return found


class Tracker(Logger):
    """A logger through the functions `init`, `log` and `finish` of a module."""

    _module: Any

    @abstractmethod
    def init_arguments(self, run: LoggedRun, identity: str) -> dict[str, Any]:
        """Keyword arguments of `init`.

        Args:
            run: the run.
            identity: eight characters that are the same whenever the run is resumed.
        """

    def start(self, run: LoggedRun) -> None:
        """Begins a run of the tracker, or continues it.

        Raises:
            ConfigError: the tracker refuses, for instance because the user is not logged in.
        """
        self._module = self.import_package()
        arguments = self.init_arguments(run, _read_identity(run.folder))
        try:
            with contextlib.redirect_stdout(sys.stderr):
                self._module.init(config=dict(run.recipe), **arguments)
        except Exception as error:  # trackers raise exceptions of their own
            raise ConfigError(f"training.loggers: {self.package} cannot start ({one_line(error)[:300]})") from error

    def write(self, metrics: Mapping[str, float], step: int) -> None:
        """Logs metrics."""
        self._module.log(dict(metrics), step=step)

    def write_picture(self, name: str, path: Path, step: int) -> None:
        """Logs an image."""
        self._module.log({name: self._module.Image(str(path))}, step=step)

    def close(self) -> None:
        """Sends what is left, and finishes the run of the tracker."""
        with contextlib.redirect_stdout(sys.stderr):
            self._module.finish()


def _read_identity(folder: Path) -> str:
    """The identity of the run of a tracker, made by the first call."""
    try:
        found = json.loads(read_bytes(folder / _IDENTITY, 1 << 10))["id"]
        if isinstance(found, str) and found.isalnum():
            return found
    except (OSError, ValueError, KeyError, TypeError):
        pass
    identity = secrets.token_hex(4)
    write_json(folder / _IDENTITY, {"id": identity})
    return identity
