"""The interface of loggers."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from convae.core.arguments import Named, parse_arguments, split_name
from convae.core.errors import ConfigError
from convae.training.loggers import LOGGERS


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
