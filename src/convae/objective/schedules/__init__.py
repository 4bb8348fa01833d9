"""One schedule a file; `base.py` says what a schedule is."""

from convae.core.registry import Registry

SCHEDULES = Registry(__name__, "schedule", "Schedule")

__all__ = ["SCHEDULES"]
