"""Foreign checkpoints: one project a file, read weights-only into a model of the preset of that name."""

from convae.core.registry import Registry

IMPORTERS = Registry(__name__, "foreign format")
