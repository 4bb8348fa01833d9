"""What bad input raises. Each message is one sentence: the thing, the place and the mend."""

from __future__ import annotations


class ConvaeError(Exception):
    """Anything that a user's input can cause; the command line prints it and exits with code 2."""


class ConfigError(ConvaeError):
    """A recipe, an option or an argument is wrong: unknown key, wrong type, value out of range."""


class TrustError(ConfigError):
    """A saved model or a run names code outside convae whose package is not trusted."""


class ShapeError(ConvaeError):
    """A layer cannot take the shape that reaches it, or a tensor has not the shape a model needs."""


class DataError(ConvaeError):
    """Images or labels cannot be found, read or used."""


class ArtifactError(ConvaeError):
    """A saved model or a checkpoint is missing, damaged or of a later format."""


class OutputError(ConvaeError):
    """A file or folder cannot be written: no permission, no space, or already there."""


class TrainingError(ConvaeError):
    """Training cannot go on, for instance because the loss is no longer a number."""


class ToldElsewhereError(ConvaeError):
    """Another process of the same run has this error and tells it; this one only ends."""
