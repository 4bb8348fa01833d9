"""Errors that bad input raises. A message says what is wrong, where, and how to fix it."""

from __future__ import annotations


class ConvaeError(Exception):
    """Base of all errors that user input can cause. The command line prints the message and exits with code 2."""


class ConfigError(ConvaeError):
    """A recipe, an option or an argument is invalid: unknown key, wrong type, value out of range."""


class TrustError(ConfigError):
    """A saved model or a run names code outside convae whose package is not trusted."""


class ShapeError(ConvaeError):
    """A layer does not accept its input shape, or a tensor has the wrong shape for a model."""


class DataError(ConvaeError):
    """Images or labels cannot be found, read or used."""


class ArtifactError(ConvaeError):
    """A saved model or a checkpoint is missing, damaged or of a later format."""


class OutputError(ConvaeError):
    """A file or folder cannot be written: no permission, no space, or already there."""


class TrainingError(ConvaeError):
    """Training cannot continue, for instance because the loss is not finite."""


class ReportedElsewhereError(ConvaeError):
    """Another process of the same run reports this error; this one ends silently."""
