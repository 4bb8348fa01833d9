"""Likelihood heads, one file each; `base.py` defines the interface."""

from convae.core.registry import Registry

LIKELIHOODS = Registry(__name__, "likelihood", "LikelihoodHead")

__all__ = ["LIKELIHOODS"]
