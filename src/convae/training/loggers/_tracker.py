"""Trackers whose modules have the functions `init`, `log` and `finish`, and the class `Image`."""

from __future__ import annotations

import contextlib
import json
import secrets
import sys
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convae.core.errors import ConfigError
from convae.core.files import read_bytes, write_json
from convae.core.names import one_line
from convae.training.loggers.base import LoggedRun, Logger

_IDENTITY = "run.json"
"""File with the identity of the run, so that a resumed run continues the same one."""


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
