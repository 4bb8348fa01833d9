"""Loss terms, one file each; `base.py` defines the interface."""

from convae.core.registry import Registry

TERMS = Registry(__name__, "term", "Term")

__all__ = ["TERMS"]
