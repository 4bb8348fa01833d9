"""Foreign checkpoints: read weights-only into a model of the preset of that name; `importers` has one file each."""

from __future__ import annotations

from convae.interop.base import Imported, filled, needed, side_of, unbounded, unknown_left
from convae.interop.checkpoints import import_model
from convae.interop.importers import IMPORTERS

__all__ = ["IMPORTERS", "Imported", "filled", "import_model", "needed", "side_of", "unbounded", "unknown_left"]
