"""One likelihood a file; `base.py` says what a likelihood is."""

from convae.core.registry import Registry

LIKELIHOODS = Registry(__name__, "likelihood", "LikelihoodHead")

__all__ = ["LIKELIHOODS"]
