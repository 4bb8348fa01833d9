"""One loss term a file; `base.py` says what a term is."""

from convae.core.registry import Registry

TERMS = Registry(__name__, "term", "Term")

__all__ = ["TERMS"]
