"""Contract test of loggers."""

from __future__ import annotations

import tempfile
from pathlib import Path

from PIL import Image

from convae.core.arguments import parse_arguments
from convae.testing.entries import name_of, no_errors, require
from convae.training.loggers import LOGGERS
from convae.training.loggers.base import LoggedRun, Logger


def check_logger(logger: str | type[Logger]) -> None:
    """Checks that a logger takes metrics and a picture, is closed, and continues a run that was resumed.

    The package that the logger needs must be installed, or replaced by a stand-in.

    Args:
        logger: class or registered name.

    Raises:
        AssertionError: the contract is violated.
    """
    name = name_of(LOGGERS, logger)
    where = f"logger {name}"
    kind: type[Logger] = LOGGERS.get(name)
    require(getattr(kind, "package", ""), f"{where}: must name the module that it needs in `package`")
    with no_errors(where), tempfile.TemporaryDirectory() as place:
        picture = Path(place) / "reconstructions.png"
        Image.new("RGB", (4, 4)).save(picture)
        for step in (0, 20):
            made = kind(**parse_arguments(kind, kind.example, where))
            made.start(LoggedRun("a run", Path(place) / "loggers" / name, {"training": {"seed": 0}}, step))
            made.write({"train/total": 1.5, "train/skipped": 0}, step + 10)
            made.write_picture("reconstructions", picture, step + 10)
            made.close()
