"""Schedules, one file each; `base.py` defines the interface."""

from convae.core.registry import Registry

SCHEDULES = Registry(__name__, "schedule", "Schedule")

__all__ = ["SCHEDULES"]
