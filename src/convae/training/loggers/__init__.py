"""Loggers, which send metrics and pictures of a run to other programs; one file each."""

from convae.core.registry import Registry

LOGGERS = Registry(__name__, "logger", "Logger")

__all__ = ["LOGGERS"]
