"""Trackio, a local tracker of Hugging Face."""

from __future__ import annotations

from typing import Any, ClassVar

from convae.training.loggers.base import LoggedRun, Tracker


class Trackio(Tracker):
    """Trackio of Hugging Face, on this machine: `trackio show`; a resumed run continues the same one.

    Args:
        project: project of the run.
        space_id: a Space on the Hugging Face Hub, `OWNER/NAME`, that shows the project; by default none.
    """

    package: ClassVar = "trackio"
    extra: ClassVar = "trackio"

    def __init__(self, *, project: str = "convae", space_id: str | None = None) -> None:
        self.project, self.space_id = project, space_id

    def init_arguments(self, run: LoggedRun, identity: str) -> dict[str, Any]:
        """See `Tracker.init_arguments`; a run is continued by its name, so the name contains the identity."""
        return {
            "project": self.project,
            "space_id": self.space_id,
            "name": f"{run.title}-{identity}",
            "resume": "allow",
        }
