"""Weights & Biases."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from convae.training.loggers.base import LoggedRun, Tracker


class Wandb(Tracker):
    """Weights & Biases; a resumed run continues the same one. Log in with `wandb login`.

    Args:
        project: project of the run.
        entity: user or team; by default that of the login.
        mode: `offline` keeps everything in `loggers/wandb/` of the run, for `wandb sync`; by default `$WANDB_MODE`, or
            else `online`.
    """

    package: ClassVar = "wandb"
    extra: ClassVar = "wandb"

    def __init__(
        self, *, project: str = "convae", entity: str | None = None, mode: Literal["online", "offline"] | None = None
    ) -> None:
        self.project, self.entity, self.mode = project, entity, mode

    def init_arguments(self, run: LoggedRun, identity: str) -> dict[str, Any]:
        """See `Tracker.init_arguments`."""
        return {
            "project": self.project,
            "entity": self.entity,
            "mode": self.mode,
            "name": run.title,
            "id": identity,
            "resume": "allow",
            "dir": str(run.folder),
            "settings": {"console": "off"},  # output of the terminal is not metrics
        }
