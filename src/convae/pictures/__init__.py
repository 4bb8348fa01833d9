"""Pictures in one style: grids, strips, scatter plots, curves, structure diagrams.

Each module offers the functions in its `__all__`. Sheets of pixels (`grid`, and error maps for them in `heat`) are
Pillow images, and importing them loads no matplotlib; figures with axes (`curves`, `scatter`, `histograms`) are
matplotlib's. `save` writes both.
"""

import importlib
from types import ModuleType

__all__ = [
    "animation",
    "bars",
    "curves",
    "grid",
    "heat",
    "histograms",
    "save",
    "scatter",
    "signals",
    "spectra",
    "strips",
    "structure",
]


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module 'convae.pictures' has no attribute '{name}'")
